import shutil
import stat
import subprocess
import sys
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers import EXAMPLES
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from showtell.alt_text.pages import find_missing_alts, insert_texts, local_path, unified_diff
from showtell.errors import CaptionFileError

SKATER, DOG = "000000129648.jpg", "000000126107.jpg"


def filled(content, suffix=".html", text="a dog"):
    gaps = find_missing_alts(content, suffix)
    return insert_texts(content, [(gap, text) for gap in gaps])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'<img src="a.jpg">', b'<img alt="a dog" src="a.jpg">'),
        (b"<IMG SRC=a.jpg>", b'<IMG alt="a dog" SRC=a.jpg>'),
        (b"<img src=a.jpg/>", b'<img alt="a dog" src=a.jpg/>'),
        (b"<img src='a.jpg'/>", b"<img alt=\"a dog\" src='a.jpg'/>"),
        (b"<img/src='a.jpg'>", b"<img alt=\"a dog\"/src='a.jpg'>"),
        (b"<p>\r\n\t<img\r\n\tsrc='a.jpg'\r\n>\r\n", b"<p>\r\n\t<img alt=\"a dog\"\r\n\tsrc='a.jpg'\r\n>\r\n"),
        (b'\xef\xbb\xbf\n\xc3\xa9<img src="a.jpg">', b'\xef\xbb\xbf\n\xc3\xa9<img alt="a dog" src="a.jpg">'),
        (b'caf\xe9 <img src="a.jpg">', b'caf\xe9 <img alt="a dog" src="a.jpg">'),
        (b'<img title="a > b" src="a.jpg">', b'<img alt="a dog" title="a > b" src="a.jpg">'),
        (b'<img data-alt="" src="a.jpg">', b'<img alt="a dog" data-alt="" src="a.jpg">'),
        (
            b'<a><img src="a.jpg"></a><img src="a.jpg">',
            b'<a><img alt="a dog" src="a.jpg"></a><img alt="a dog" src="a.jpg">',
        ),
        (
            b'<picture><source srcset="b.avif"><img src="a.jpg"></picture>',
            b'<picture><source srcset="b.avif"><img alt="a dog" src="a.jpg"></picture>',
        ),
        (b"<template></template><img src=a>", b'<template></template><img alt="a dog" src=a>'),
    ],
)
def test_the_attribute_is_all_that_changes(before, after):
    assert filled(before) == after and find_missing_alts(after, ".html") == []


@pytest.mark.parametrize(
    "content",
    [
        b'<img src="a.jpg" alt="">',
        b'<img alt src="a.jpg">',
        b"<img src=\"a.jpg\" ALT='mine'>",
        b'<img src="a.jpg" role="presentation">',
        b'<img src="a.jpg" aria-hidden="true">',
        b'<img src="a.jpg" aria-label="mine">',
        b"<img>",
        b'<img data-src="a.jpg">',
        b'<!-- <img src="a.jpg"> -->',
        b"<script>document.write('<img src=a.jpg>')</script>",
        b"<style>/* <img src=a.jpg> */</style>",
        b'<template><template></template><img src="a.jpg"></template>',
        b"<textarea><img src=a.jpg></textarea>",
        b"<title><img src=a.jpg></title>",
        b'<p title="<img src=a.jpg>">',
        b"<image src=a.jpg>",
        b"<imgs src=a.jpg>",
        b"&lt;img src=a.jpg>",
        b"<img src=a.jpg",
    ],
)
def test_what_has_a_text_is_decorative_or_no_part_of_the_page_is_left_alone(content):
    assert find_missing_alts(content, ".html") == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"![](a.jpg)", b"![a dog](a.jpg)"),
        (b"![ ](<a b.jpg> 'title')", b"![a dog ](<a b.jpg> 'title')"),
        (b"[![](a.jpg)](page.html)", b"[![a dog](a.jpg)](page.html)"),
        (b"![][photo]\n\n[photo]: a.jpg\n", b"![a dog][photo]\n\n[photo]: a.jpg\n"),
        (b"| ![](a.jpg) | `![](a.jpg)` |\r\n", b"| ![a dog](a.jpg) | `![](a.jpg)` |\r\n"),
        (b"- a\n\n      ![](a.jpg)\n\n  ![](a.jpg)", b"- a\n\n      ![](a.jpg)\n\n  ![a dog](a.jpg)"),
        (b"---\nimage: ![](a.jpg)\n---\n![](a.jpg)\n", b"---\nimage: ![](a.jpg)\n---\n![a dog](a.jpg)\n"),
        (b"gap0x ![](a.jpg)", b"gap0x ![a dog](a.jpg)"),
        (b'text <img src="a.jpg"> `<img src="a.jpg">`', b'text <img alt="a dog" src="a.jpg"> `<img src="a.jpg">`'),
        (b'<p>\n<img\n  src="a.jpg">\n</p>\n', b'<p>\n<img alt="a dog"\n  src="a.jpg">\n</p>\n'),
        (
            b"<!--\n<img src=a.jpg>\n![](a.jpg)\n-->\n![](a.jpg)",
            b"<!--\n<img src=a.jpg>\n![](a.jpg)\n-->\n![a dog](a.jpg)",
        ),
    ],
)
def test_markdown_images_get_their_text_between_the_brackets(before, after):
    assert filled(before, ".md") == after and find_missing_alts(after, ".md") == []


@pytest.mark.parametrize(
    "content",
    [
        b"![mine](a.jpg)",
        b"```\n![](a.jpg)\n<img src=a.jpg>\n```\n",
        b"~~~ md\n![](a.jpg)\n",
        b"    ![](a.jpg)\n",
        b"`` ` ![](a.jpg) ``",
        b"\\![](a.jpg)",
        b"![](a b.jpg)",
        b"![][nowhere]",
        b"![]",
        b"![around ![](a.jpg) it](b.jpg)",
        b'<img src="a.jpg" alt="">',
        b"<script>\n'![](a.jpg) <img src=a.jpg>'\n</script>\n",
    ],
)
def test_markdown_that_is_code_or_no_image_is_left_alone(content):
    assert find_missing_alts(content, ".md") == []


def test_where_and_what_an_image_is():
    content = '<p>é\r\n\n<img\nsrc="a&amp;b.jpg"><img srcset="c.jpg 2x, d.jpg"><base href="/x/">'.encode()
    first, second = find_missing_alts(content, ".HTML")
    assert (first.source, first.line, content[: first.place]) == ("/x/a&b.jpg", 3, "<p>é\r\n\n<img".encode())
    assert (second.source, second.line) == ("/x/c.jpg", 4)
    (image,) = find_missing_alts("---\na: b\n---\n\n![](caf\u00e9.jpg)".encode("latin-1"), ".md")
    assert (local_path(image.source, Path("p.md"), Path()), image.line) == (Path("café.jpg"), 5)


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("b%20c.jpg?v=1#top", "site/blog/b c.jpg"),
        ("../a.jpg", "site/blog/../a.jpg"),
        ("/img/a.jpg", "site/img/a.jpg"),
        (" a.jpg\n", "site/blog/a.jpg"),
        ("caf%E9.jpg", "site/blog/caf\udce9.jpg"),
        *((remote, None) for remote in ("https://x.org/a.jpg", "HTTP://x.org/a.jpg", "//x.org/a.jpg", "data:,x")),
        *((nothing, None) for nothing in ("", "#top", "?v=1", "//[", "file:///a.jpg")),
    ],
)
def test_addresses_are_files_of_the_site_or_remote(source, path):
    assert local_path(source, Path("site/blog/page.html"), Path("site")) == (path and Path(path))


def test_what_cannot_be_read_is_refused():
    for content, suffix, why in [
        ("<img src='a.jpg'>".encode("utf-16"), ".html", "UTF-16"),
        (b"<img src='a.jpg'>", ".txt", "not HTML or Markdown"),
    ]:
        with pytest.raises(CaptionFileError, match=why):
            find_missing_alts(content, suffix)


# Pieces of pages, in any order and with any bytes between them.
PIECES = st.sampled_from(
    [
        b'<img src="a.jpg">', b"<IMG\r\nSRC=b.jpg/>", b'<img alt="" src=c>', b"<img", b"![](a.jpg)", b"![ ](b.jpg)",
        b"![", b"](", b"![][r]\n", b"[r]: a.jpg\n", b"`", b"```\n", b"    ",
        b"- ", b"> ", b"\n", b"\r\n", b"\n\n", b"---\n",
        b"<!--", b"-->", b"<script>", b"</script>", b"<template>", b"</template>", b"<p ", b">", b'"', b"'", b"\\",
        b"<![CDATA[", b"<![x[", b"<!x", b"<?x", b"</", b"\xc3\xa9", b"\xe9",
         b"\xc2\x85", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"gap0x", b"&amp;",
    ]
)  # fmt: skip
PAGES = st.lists(st.one_of(PIECES, PIECES, st.binary(max_size=3)), max_size=25).map(b"".join)


@settings(deadline=None, max_examples=400)
@given(content=PAGES, suffix=st.sampled_from([".html", ".md"]))
def test_all_bytes_but_the_texts_stay_and_a_second_run_proposes_nothing(content, suffix):
    try:
        after = filled(content, suffix, "some words")
    except CaptionFileError:
        return
    assert after.replace(b' alt="some words"', b"").replace(b"some words", b"") == content
    assert find_missing_alts(after, suffix) == [] and filled(content, suffix, " \n") == content


# Character references of some control characters and of what is no character mean something else.
CHARACTERS = st.characters(exclude_categories=["Cs", "Cc", "Cn"])


@settings(deadline=None, max_examples=150)
@given(text=st.text(CHARACTERS, max_size=30), legacy=st.booleans())
def test_any_text_is_read_back_by_browsers_and_markdown(text, legacy):
    words = " ".join([*text.split(), "a"])
    encoding = "latin-1" if legacy else "utf-8"
    page = filled("é<img src=a>".encode(encoding), ".html", words).decode(encoding)
    read = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: read.append(dict(attrs).get("alt", ""))
    parser.feed(page)
    assert read == [words]
    source = filled("é![](a)".encode(encoding), ".md", words).decode(encoding)
    (image,) = [token for token in MarkdownIt("commonmark").parse(source)[1].children if token.type == "image"]
    assert "".join(token.content for token in image.children) == words


@pytest.mark.skipif(shutil.which("git") is None, reason="no git to apply the diff with")
@pytest.mark.parametrize(
    "before", [b"<p>\n<img src=a>", b"<p>\r\n<img src=a>\r\n<p>\x0c\r</p>", b"a\n" * 30 + b"<img src=a>\n" + b"b\n" * 9]
)
def test_the_diff_applies(tmp_path, before):
    after = filled(before)
    (tmp_path / "page.html").write_bytes(before)
    (tmp_path / "change.diff").write_bytes(unified_diff(Path("page.html"), before, after))
    subprocess.run(["git", "apply", "change.diff"], cwd=tmp_path, check=True)
    assert (tmp_path / "page.html").read_bytes() == after


@pytest.fixture
def site(tmp_path):
    """A site of two pages, an image that a model is sure of, and one that it is not sure of."""
    folder = tmp_path / "site"
    (folder / "blog").mkdir(parents=True)
    shutil.copy(EXAMPLES / SKATER, folder / "a skater.jpg")
    shutil.copy(EXAMPLES / DOG, folder / "blog" / "dog.jpg")
    (folder / "index.html").write_bytes(b'<img src="a%20skater.jpg">\r\n<img src="https://x.org/a.jpg"><img src=b alt>')
    (folder / "blog" / "post.md").write_bytes(b"![](/a%20skater.jpg)\n\n![](dog.jpg)\n\n`![](dog.jpg)`\n")
    return folder


def test_texts_are_proposed_and_a_person_gets_a_list_of_the_others(showtell, site):
    before = {path: path.read_bytes() for path in site.rglob("*.*")}
    done = showtell("alt-text", site)
    removed = [line for line in done.stdout.splitlines() if line.startswith("-") and not line.startswith("---")]
    added = [line for line in done.stdout.splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert {line.rstrip("\r\n") for line in removed} >= {"-![](/a%20skater.jpg)", '-<img src="a%20skater.jpg">'}
    assert len(added) == 2 and all("skateboarder" in line for line in added)
    assert f"{site}/blog/post.md:3: dog.jpg: needs a text by a person: the confidence" in done.stderr
    assert "texts proposed: 2, in 2 of 2 files; --write writes them" in done.stderr
    assert {path: path.read_bytes() for path in site.rglob("*.*")} == before


def test_write_changes_the_files_and_a_second_run_nothing(showtell, site, looking_bundle):
    page, post = site / "index.html", site / "blog" / "post.md"
    page.chmod(0o640)
    (site / "link.html").symlink_to("index.html")
    page_before = page.read_bytes()
    command = ["alt-text", site / "link.html", post, "--model", looking_bundle, "--min-confidence", 0, "--write"]
    first = showtell(*command, status=1)  # the root of a page that is named is its folder, which has no skater
    assert f"{post}:1: /a%20skater.jpg: needs a text by a person" in first.stderr and "no such file" in first.stderr
    assert page.read_bytes() == page_before.replace(b'<img src="a%', b'<img alt="a dog" src="a%')
    assert (site / "link.html").is_symlink() and stat.S_IMODE(page.stat().st_mode) == 0o640
    assert post.read_bytes() == b"![](/a%20skater.jpg)\n\n![a dog](dog.jpg)\n\n`![](dog.jpg)`\n"
    showtell("alt-text", site, *command[3:])
    assert post.read_bytes().startswith(b"![a dog](/a%20skater.jpg)\n")
    done = showtell("alt-text", site, *command[3:])
    assert done.stdout == "" and "texts written: 0, in 0 of 3 files" in done.stderr


def test_errors_are_lines_and_the_rest_is_done(showtell, site, looking_bundle):
    (site / "wide.html").write_bytes("<img src='dog.jpg'>".encode("utf-16"))
    (site / "blog" / "dog.jpg").write_bytes(b"broken")
    options = ["--model", looking_bundle, "--min-confidence", 0]
    done = showtell("alt-text", site, site / "no.html", *options, status=1)
    assert "+![a dog](/a%20skater.jpg)" in done.stdout
    assert "wide.html: not text, or UTF-16" in done.stderr and "no.html: No such file or directory" in done.stderr
    assert "post.md:3: dog.jpg: needs a text by a person" in done.stderr and "not an image" in done.stderr
    (site / "empty").mkdir()
    for arguments, why in [
        ([site / "empty", *options], "no HTML or Markdown files in"),
        ([site, "--model", looking_bundle], "--min-confidence 0 proposes all"),
    ]:
        refused = showtell("alt-text", *arguments, status=2)
        assert why in refused.stderr and refused.stderr.count("\n") == 1 and refused.stdout == ""


def test_a_page_that_cannot_be_written_is_told(site, looking_bundle):
    resource = pytest.importorskip("resource", reason="limits are of POSIX")
    large = site / "large.html"
    large.write_bytes((site / "index.html").read_bytes() + b" " * 10_000)
    command = [sys.executable, "-m", "showtell", "alt-text", site, "--model", looking_bundle, "--min-confidence", "0"]
    limited = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (5_000, 5_000))
    done = subprocess.run([*command, "--write"], capture_output=True, text=True, preexec_fn=limited, check=False)
    assert done.returncode == 1 and f"showtell: {large}: File too large\n" in done.stderr
    assert large.read_bytes().startswith(b"<img src") and not list(site.glob(".*"))
    assert b"a dog" in (site / "index.html").read_bytes() and "texts written: 3, in 2 of 3 files" in done.stderr
