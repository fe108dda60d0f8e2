"""The tokenizer of HTML."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from showtell.alt_text.html_tags import scan_tags


def names(page, is_xml=False):
    return [("/" if tag.is_end else "") + tag.name.decode() for tag in scan_tags(page, is_xml)]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (b"<a><B/></a >", ["a", "b", "/a"]),
        (b"<!--><a>-->", ["a"]),
        (b"<!---><a>-->", ["a"]),
        (b"<!-- <a> --!><b>", ["b"]),
        (b"<!-- <a> -- ><b> --><i>", ["i"]),
        (b"<!doctype html><a>", ["a"]),
        (b"<?xml version='1.0'?><a>", ["a"]),
        (b"<![if !mso]><a><![endif]>", ["a"]),
        (b"<svg><![CDATA[ <a> ]]></svg>", ["svg", "/svg"]),
        (b"</><a></ b><i>", ["a", "i"]),
        (b"< a><1><a", []),
        (b"<a b='><i>'><p>", ["a", "p"]),
        (b"<a b=c'><i>", ["a", "i"]),
        (b'<a b = "><i>" c><p>', ["a", "p"]),
        (b'<a "><i>', ["a", "i"]),
        (b"<script>'<a>'</SCRIPT><b>", ["script", "/script", "b"]),
        (b"<script><!-- <script> </script> <a> --></script><b>", ["script", "/script", "b"]),
        (b"<script><!--></script><b>", ["script", "/script", "b"]),
        (b"<title><a></titles></title><b>", ["title", "/title", "b"]),
        (b"<plaintext><a></plaintext>", ["plaintext"]),
    ],
)
def test_tags_are_those_of_the_html_standard(page, expected):
    assert names(page) == expected


def test_a_slash_closes_scripts_in_xhtml_only():
    page = b"<script src='a.js'/><img/></script>"
    assert names(page) == ["script", "/script"]
    assert names(page, is_xml=True) == ["script", "img", "/script"]


@pytest.mark.parametrize("start", [b"<!--", b"<![CDATA[", b"<!x", b"<p", b"<p a='", b'<p a="', b"<p a=", b"<script>"])
def test_unclosed_markup_extends_to_the_end(start):
    assert names(b"<a>" + start + b" <img src=b") in (["a"], ["a", "script"])


def test_attributes_have_values_without_quotes_and_references():
    page = "<img a=1 B='2 &amp; 3' c = \"é>\" d e=f/g a=4 =h='i' &j='k'l=\"m\">".encode()
    (tag,) = scan_tags(page)
    expected = {"a": "1", "b": "2 & 3", "c": "é>", "d": "", "e": "f/g", "=h": "i", "&j": "k", "l": "m"}
    assert tag.attributes() == expected and page[tag.start : tag.end] == page


def test_a_long_reference_is_not_resolved():
    (tag,) = scan_tags(b"<img src='&#" + b"1" * 5000 + b";'>")  # Python refuses to parse such a number
    assert tag.attributes()["src"].startswith("&#111")


TEXTS = st.sampled_from(["a", " ", "é", "&amp;", "\n", '"', "'", "=", "/", "\x0b"])
ATTRIBUTES = st.sampled_from(["", " a", " a=b", " a='>'", '\n a = "<i>"', "\ta/", " alt=''", " é='\u2028'"])
TAGS = st.tuples(st.sampled_from(["<img", "<p", "</p", "<B", "<x-y"]), ATTRIBUTES).map(
    lambda parts: "".join(parts) + ">"
)
OTHERS = st.sampled_from(["<!-- <i> -->", "<!x>", "<?x>", "<style><i></style>", "<script>'<i>'</script>"])
PAGES = st.lists(st.one_of(TEXTS, TAGS, TAGS, OTHERS), max_size=20).map("".join)


@given(page=PAGES)
def test_tags_of_closed_markup_are_those_of_html_parser(page):
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append((tag, {name: value or "" for name, value in attrs}))
    parser.handle_endtag = lambda tag: tags.append(("/" + tag, {}))
    parser.handle_startendtag = parser.handle_starttag
    parser.feed(page)
    parser.close()
    found = scan_tags(page.encode())
    assert [
        ("/" + tag.name.decode(), {}) if tag.is_end else (tag.name.decode(), tag.attributes()) for tag in found
    ] == tags
