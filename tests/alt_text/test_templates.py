"""Template code in pages."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.alt_text import find_missing_alts, insert_texts


@pytest.mark.parametrize(
    ("page", "suffix"),
    [
        (b'<%= "<img src=p.jpg>" %>', ".html"),
        (b'<img src=a.jpg {% if x %}alt="y"{% endif %}>', ".html"),
        (b'<img {% if a > b %}alt="y"{% endif %} src="a.jpg">', ".html"),
        (b"<img src='{{ address }}'>", ".html"),
        (b"<img src=${address}>", ".html"),
        (b"<img src={photo}/>", ".html"),
        (b"<img src=a.jpg {...properties}>", ".html"),
        (b"{/* <img src=a.jpg> */}", ".html"),
        (b"{{# <img src=a.jpg> #}", ".html"),
        (b"{# <img src=a.jpg> #}", ".html"),
        (b'<?php if ($a > 1) echo "<img src=a.jpg>"; ?>', ".html"),
        (b'<?php echo "<img src=a.jpg>";', ".html"),
        (b'<img src="<%= asset("a.jpg") %>">', ".html"),
        (b'<img src=a.jpg <c:if test="x">alt="y"</c:if>>', ".html"),
        (b"<base href='{{ root }}'><img src=a.jpg>", ".html"),
        (b"![]({{address}})", ".md"),
        (b'![]({{ "/a.jpg" | relative_url }})', ".md"),
        (b"<img src='{{ address }}'>", ".md"),
        (b'<img src="<%= asset("a.jpg") %>">', ".md"),
        (b"{/*\n<img src=a.jpg>\n*/}", ".md"),
        (b"{{ '![](a.jpg)' }}", ".md"),
        (b"{# ![](a.jpg)\n\n#}", ".md"),
    ],
)
def test_images_in_template_code_are_found_and_left_alone(page, suffix):
    (missing,) = find_missing_alts(page, suffix)
    assert missing.is_template and missing.source == ""
    assert insert_texts(page, [(missing, "a dog")]) == page


@pytest.mark.parametrize(
    ("page", "suffix"),
    [
        (b"<img src='{{ address }}' alt='{{ text }}'>", ".html"),
        (b"<img src=a.jpg :alt='text'>", ".html"),
        (b"<img src=a.jpg [attr.alt]='text'>", ".html"),
        (b"<img src=a.jpg v-bind='attributes'>", ".html"),
        (b"<script>document.write('<img src=a.jpg>')</script>", ".html"),
        (b"<button onclick=\"show('<img src=a.jpg>')\">", ".html"),
        (b'<p title="<%= text("a") %> <img src=b.jpg>">', ".html"),
        (b"<base href='{{ root }}'><img src=https://x.org/a.jpg alt=mine>", ".html"),
        (b"```\n{{ '<img src=a.jpg>' }}\n```\n", ".md"),
        (b"`![]({{address}})`", ".md"),
    ],
)
def test_described_and_inert_images_with_template_code_are_ignored(page, suffix):
    assert find_missing_alts(page, suffix) == []


@pytest.mark.parametrize(
    ("page", "suffix"),
    [
        (b"{% if x %}<img src=a.jpg>{% endif %}", ".html"),
        (b"<p class='{{ name }}'><img src=a.jpg></p>", ".html"),
        (b"{{ <img src=a.jpg>", ".html"),
        (b"<style>@media print{#menu{display:none}}</style><img src=a.jpg>", ".html"),
        (b"<?xml version='1.0'?><img src=a.jpg>", ".xhtml"),
        (b"Use `{{`.\n\n```\n}}\n```\n\n![](a.jpg)", ".md"),
        (b"# Title {#name}\n\n![](a.jpg)", ".md"),
    ],
)
def test_images_near_template_code_are_found(page, suffix):
    (missing,) = find_missing_alts(page, suffix)
    assert not missing.is_template and missing.source == "a.jpg"


MARKS = ["{{", "}}", "{%", "%}", "{#", "#}", "<%", "%>", "<?php ", "?>", "{/*", "*/}", "{", "}", "${"]
PIECES = [
    "<img src=a>",
    "![](a)",
    "<img ",
    "<p title='",
    "'",
    '"',
    ">",
    "\n",
    "\n\n",
    "`",
    "a",
    "[",
    "](",
    "<!--",
    "-->",
]
PAGES = st.lists(st.sampled_from(MARKS + PIECES + PIECES), max_size=25).map("".join)


@settings(deadline=None, max_examples=300)
@given(page=PAGES, suffix=st.sampled_from([".html", ".md"]))
def test_template_code_stays_as_it_is(page, suffix):
    before = page.encode()
    after = insert_texts(before, [(missing, "a dog") for missing in find_missing_alts(before, suffix)])
    for opening, closing in (("{{", "}}"), ("{%", "%}"), ("{#", "#}"), ("<%", "%>"), ("{/*", "*/}")):
        # The last opening mark before a closing mark starts code, unless it is within other code.
        for part in page.split(closing)[:-1]:
            code = part.rpartition(opening)[2] if opening in part else ""
            assert code.encode() in after
    assert all(missing.is_template for missing in find_missing_alts(after, suffix))
