"""Pages on disk, their addresses and diffs."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from showtell.alt_text import Page, Website, insert_texts
from showtell.errors import PageError


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("b%20c.jpg?v=1#top", "site/blog/b c.jpg"),
        ("../a.jpg", "site/blog/../a.jpg"),
        ("/img/a.jpg", "site/img/a.jpg"),
        (" a.jpg\n", "site/blog/a.jpg"),
        ("caf%E9.jpg", "site/blog/caf\udce9.jpg"),
        *((remote, None) for remote in ("https://x.org/a.jpg", "HTTP://x.org/a.jpg", "//x.org/a.jpg", "data:,x")),
        *((nothing, None) for nothing in ("", "#top", "?v=1", "//[")),
    ],
)
def test_an_address_is_a_file_of_the_website_or_remote(source, path):
    assert Website(Path("site")).local_path(source, Path("site/blog/page.html")) == (path and Path(path))


def test_a_page_lists_local_images_only(tmp_path):
    path = tmp_path / "blog" / "page.html"
    path.parent.mkdir()
    path.write_bytes(b"<img src=a.jpg><img src=/b.jpg><img src=https://x.org/c.jpg><img src=d.jpg alt=mine>")
    page = Page.read(path, Website(tmp_path))
    assert [image for _, image in page.missing] == [tmp_path / "blog" / "a.jpg", tmp_path / "b.jpg"]
    path.write_bytes("<img src='a.jpg'>".encode("utf-16"))
    with pytest.raises(PageError, match=r"page\.html: not text, or UTF-16"):
        Page.read(path, Website(tmp_path))


def test_writing_keeps_permissions_and_links_and_detects_changes(tmp_path):
    path, link = tmp_path / "page.html", tmp_path / "link.html"
    path.write_bytes(b"before")
    path.chmod(0o640)
    link.symlink_to("page.html")
    page = Page.read(link, Website(tmp_path))
    page.write(b"after")
    assert link.is_symlink() and path.read_bytes() == b"after" and stat.S_IMODE(path.stat().st_mode) == 0o640
    with pytest.raises(PageError, match="changed by another program"):
        page.write(b"again")
    assert path.read_bytes() == b"after"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is needed to apply the diff")
@pytest.mark.parametrize(
    "before", [b"<p>\n<img src=a>", b"<p>\r\n<img src=a>\r\n<p>\x0c\r</p>", b"a\n" * 30 + b"<img src=a>\n" + b"b\n" * 9]
)
def test_git_applies_the_diff(tmp_path, monkeypatch, before):
    monkeypatch.chdir(tmp_path)
    Path("page.html").write_bytes(before)
    page = Page.read(Path("page.html"), Website(Path()))
    after = insert_texts(before, [(missing, "a dog") for missing, _ in page.missing])
    Path("change.diff").write_bytes(page.diff(after))
    subprocess.run(["git", "apply", "change.diff"], check=True)
    assert Path("page.html").read_bytes() == after != before
