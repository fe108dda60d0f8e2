"""The folder of a website, which addresses and links do not leave."""

import os
from pathlib import Path

import pytest

from showtell.alt_text import Website, read_pages
from showtell.errors import PageError


@pytest.fixture
def website(tmp_path):
    """A website with images inside and outside of its folder, and links to both."""
    root = tmp_path / "site"
    (root / "blog").mkdir(parents=True)
    (tmp_path / "site-2").mkdir()
    for file in ("site/a.jpg", "site-2/b.jpg", "secret.jpg"):
        (tmp_path / file).touch()
    (root / "inside.jpg").symlink_to("a.jpg")
    (root / "outside.jpg").symlink_to("../secret.jpg")
    (root / "parent").symlink_to(tmp_path)
    (root / "loop.jpg").symlink_to("loop.jpg")
    return Website(root)


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("b%20c.jpg?v=1#top", "blog/b c.jpg"),
        ("../a.jpg", "blog/../a.jpg"),
        ("../inside.jpg", "blog/../inside.jpg"),
        ("/img/a.jpg", "img/a.jpg"),
        (" a.jpg\n", "blog/a.jpg"),
        ("caf%E9.jpg", "blog/caf\udce9.jpg"),
        ("x" * 1000, "blog/" + "x" * 1000),
        ("../loop.jpg", "blog/../loop.jpg"),
    ],
)
def test_an_address_is_a_file_of_the_website(website, source, path):
    assert website.local_path(source, website.root / "blog" / "page.html") == website.root / path


@pytest.mark.parametrize(
    "source",
    ["https://x.org/a.jpg", "HTTP://x.org/a.jpg", "//x.org/a.jpg", "data:,x", "c:/a.jpg", "", "#top", "?v=1", "//["],
)
def test_remote_and_empty_addresses_have_no_file(website, source):
    assert website.local_path(source, website.root / "page.html") is None


@pytest.mark.parametrize(
    "source",
    [
        "../secret.jpg",
        "/../secret.jpg",
        "%2e%2e/secret.jpg",
        "..%2Fsecret.jpg",
        "%2F..%2Fsecret.jpg",
        "blog/../../secret.jpg",
        "../site-2/b.jpg",
        "outside.jpg",
        "parent/secret.jpg",
        "parent/site/../secret.jpg",
        "..",
        "file:///etc/passwd",
        "FILE:a.jpg",
        "a%00.jpg",
        "a/" * 1000,
        "../" * 1_000_000,
    ],
)
def test_addresses_that_leave_the_folder_are_rejected(website, source):
    with pytest.raises(PageError) as failure:
        website.local_path(source, website.root / "page.html")
    assert "\n" not in str(failure.value)


def test_relative_folders_contain_their_files(website, monkeypatch):
    monkeypatch.chdir(website.root)
    assert Website(Path()).local_path("a.jpg", Path("page.html")) == Path("a.jpg")
    with pytest.raises(PageError, match="outside of"):
        Website(Path()).local_path("../secret.jpg", Path("page.html"))


def test_pages_outside_of_the_folder_are_reported(website, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<img src=a.jpg>")
    (website.root / "link.html").symlink_to(page)
    (website.root / "zero.html").symlink_to("/dev/zero")
    (website.root / "own.html").write_text("<img src=a.jpg>")
    (website.root / "again.html").symlink_to("own.html")  # read once, by its own name
    os.mkfifo(website.root / "pipe.html")
    pages, errors = read_pages([website.root])
    assert [page.path.name for page in pages] == ["own.html"]
    assert sorted(errors) == [
        f"{website.root}/link.html: links to {page}, which is outside of {website.root}; pass that file instead",
        f"{website.root}/pipe.html: not a regular file",
        f"{website.root}/zero.html: links to /dev/zero, which is outside of {website.root}; pass that file instead",
    ]
    ((page,), _) = read_pages([website.root / "again.html"])
    assert page.file.name == "own.html" and page.missing[0][1] == website.root / "a.jpg"
