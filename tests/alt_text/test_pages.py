"""Pages on disk, their addresses and diffs."""

import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from showtell.alt_text import Page, Website, insert_texts
from showtell.errors import PageError


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


def test_writing_keeps_extended_attributes(tmp_path):
    path = tmp_path / "page.html"
    path.write_bytes(b"before")
    try:
        os.setxattr(path, "user.origin", b"x")
    except (AttributeError, OSError):
        pytest.skip("needs extended attributes")
    os.utime(path, (0, 0))
    Page.read(path, Website(tmp_path)).write(b"after")
    assert path.read_bytes() == b"after" and os.getxattr(path, "user.origin") == b"x"
    assert path.stat().st_mtime > 0


def test_a_page_with_hard_links_is_not_written(tmp_path):
    path, other = tmp_path / "page.html", tmp_path / "other.html"
    path.write_bytes(b"before")
    other.hardlink_to(path)
    with pytest.raises(PageError, match=r"page\.html: has 2 hard links"):
        Page.read(path, Website(tmp_path)).write(b"after")
    assert other.read_bytes() == b"before" and other.samefile(path) and len(list(tmp_path.iterdir())) == 2


@pytest.fixture
def shared_folder():
    """A folder that every user can write to."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to change owners")
def test_the_owner_is_kept_or_the_page_is_not_written(shared_folder):
    path = shared_folder / "page.html"
    path.write_bytes(b"before")
    os.chown(path, 1234, 2345)
    Page.read(path, Website(shared_folder)).write(b"after")
    assert (path.stat().st_uid, path.stat().st_gid, path.read_bytes()) == (1234, 2345, b"after")
    os.seteuid(4321)
    try:
        page = Page.read(path, Website(shared_folder))
        with pytest.raises(PageError, match=r"page\.html: belongs to another user"):
            page.write(b"again")
    finally:
        os.seteuid(0)
    assert path.read_bytes() == b"after" and list(shared_folder.iterdir()) == [path]


def test_a_large_page_is_rejected(tmp_path):
    path = tmp_path / "page.html"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(PageError, match=r"page\.html: too large: more than 5 MB"):
        Page.read(path, Website(tmp_path))


def test_a_diff_names_the_file_relative_to_the_current_folder(tmp_path, monkeypatch):
    path = tmp_path / "blog" / "page.html"
    path.parent.mkdir()
    path.write_bytes(b"before")
    (tmp_path / "link.html").symlink_to(path)
    monkeypatch.chdir(path.parent)
    for given in (Path("page.html"), path, Path("../link.html"), Path("../blog/page.html")):
        assert Page.read(given, Website(tmp_path)).diff(b"after").startswith(b"--- a/page.html\n+++ b/page.html\n")
    monkeypatch.chdir("/")
    name = os.fsencode(path.resolve()).lstrip(b"/")
    assert Page.read(path, Website(tmp_path)).diff(b"after").startswith(b"--- a/" + name)


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
