"""The command `showtell alt-text`."""

import os
import shutil
import stat
import subprocess
import sys
from functools import partial

import pytest
from helpers import EXAMPLES

SKATER, DOG = "000000129648.jpg", "000000126107.jpg"


@pytest.fixture
def site(tmp_path):
    """A website with two pages. The model is confident about one image, and not about the other."""
    folder = tmp_path / "site"
    (folder / "blog").mkdir(parents=True)
    shutil.copy(EXAMPLES / SKATER, folder / "a skater.jpg")
    shutil.copy(EXAMPLES / DOG, folder / "blog" / "dog.jpg")
    (folder / "index.html").write_bytes(b'<img src="a%20skater.jpg">\r\n<img src="https://x.org/a.jpg"><img src=b alt>')
    (folder / "blog" / "post.md").write_bytes(b"![](/a%20skater.jpg)\n\n![](dog.jpg)\n\n`![](dog.jpg)`\n")
    return folder


def test_texts_are_proposed_and_other_images_are_listed(showtell, site):
    before = {path: path.read_bytes() for path in site.rglob("*.*")}
    done = showtell("alt-text", site)
    removed = [line for line in done.stdout.splitlines() if line.startswith("-") and not line.startswith("---")]
    added = [line for line in done.stdout.splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert {line.rstrip("\r\n") for line in removed} >= {"-![](/a%20skater.jpg)", '-<img src="a%20skater.jpg">'}
    assert len(added) == 2 and all("skateboarder" in line for line in added)
    assert f"{site}/blog/post.md:3: dog.jpg: no text proposed: confidence" in done.stderr
    assert "proposed 2 texts in 2 of 2 files; use --write to write them" in done.stderr
    assert {path: path.read_bytes() for path in site.rglob("*.*")} == before


def test_write_changes_the_files_once(showtell, site, looking_bundle):
    page, post = site / "index.html", site / "blog" / "post.md"
    page.chmod(0o640)
    (site / "link.html").symlink_to("index.html")
    page_before = page.read_bytes()
    command = ["alt-text", site / "link.html", post, "--model", looking_bundle, "--min-confidence", 0, "--write"]
    first = showtell(*command, status=1)  # the root of post.md is blog/, without a skater
    assert f"{post}:1: /a%20skater.jpg: no text proposed: " in first.stderr and "no such file" in first.stderr
    assert page.read_bytes() == page_before.replace(b'<img src="a%', b'<img alt="a dog" src="a%')
    assert (site / "link.html").is_symlink() and stat.S_IMODE(page.stat().st_mode) == 0o640
    assert post.read_bytes() == b"![](/a%20skater.jpg)\n\n![a dog](dog.jpg)\n\n`![](dog.jpg)`\n"
    showtell("alt-text", site, *command[3:])
    assert post.read_bytes().startswith(b"![a dog](/a%20skater.jpg)\n")
    done = showtell("alt-text", site, *command[3:])
    assert done.stdout == "" and "wrote 0 texts in 0 of 2 files" in done.stderr


def test_an_error_does_not_stop_other_pages(showtell, site, looking_bundle):
    (site / "wide.html").write_bytes("<img src='dog.jpg'>".encode("utf-16"))
    (site / "blog" / "dog.jpg").write_bytes(b"broken")
    options = ["--model", looking_bundle, "--min-confidence", 0]
    done = showtell("alt-text", site, site / "no.html", *options, status=1)
    assert "+![a dog](/a%20skater.jpg)" in done.stdout
    assert "wide.html: not text, or UTF-16" in done.stderr and "no.html: No such file or directory" in done.stderr
    assert "post.md:3: dog.jpg: no text proposed: " in done.stderr and "not an image" in done.stderr
    (site / "empty").mkdir()
    for arguments, message in [
        ([site / "empty", *options], "no HTML or Markdown files in"),
        ([site, "--model", looking_bundle], "accept all captions with --min-confidence 0"),
    ]:
        refused = showtell("alt-text", *arguments, status=2)
        assert message in refused.stderr and refused.stderr.count("\n") == 1 and refused.stdout == ""


def test_a_page_that_cannot_be_written_is_reported(site, looking_bundle):
    resource = pytest.importorskip("resource", reason="POSIX only")
    large = site / "large.html"
    large.write_bytes((site / "index.html").read_bytes() + b" " * 10_000)
    command = [sys.executable, "-m", "showtell", "alt-text", site, "--model", looking_bundle, "--min-confidence", "0"]
    limit_file_size = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (5_000, 5_000))
    done = subprocess.run(
        [*command, "--write"], capture_output=True, text=True, preexec_fn=limit_file_size, check=False
    )
    assert done.returncode == 1 and f"warning: {large}: File too large\n" in done.stderr
    assert large.read_bytes().startswith(b"<img src") and not list(site.glob(".*"))
    assert b"a dog" in (site / "index.html").read_bytes() and "wrote 3 texts in 2 of 3 files" in done.stderr


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git, to apply the diff")
def test_git_applies_the_diff_of_pages_with_strange_names(site, looking_bundle, monkeypatch):
    for name in (b"line\nbreak.html", b'"quoted"\t.html', b"escape\x1b.html", b"caf\xe9.html"):
        shutil.copy(site / "index.html", site / os.fsdecode(name))
    monkeypatch.chdir(site)
    command = [sys.executable, "-m", "showtell", "alt-text", ".", "--model", looking_bundle, "--min-confidence", "0"]
    diff = subprocess.run(command, capture_output=True, check=True).stdout
    subprocess.run(["git", "apply"], input=diff, check=True)
    pages = [path.read_bytes() for path in site.rglob("*.*") if path.suffix in (".html", ".md")]
    assert len(pages) == 6 and all(page.count(b"a dog") in (1, 2) for page in pages)


def test_template_code_and_addresses_outside_of_the_folder_are_listed(showtell, site, looking_bundle):
    page = site / "blog" / "page.html"
    page.write_bytes(b'<%= "<img src=dog.jpg>" %>\n<img src="../../secret.jpg">\n<img src="dog\x1b[2J.jpg">')
    done = showtell("alt-text", page, "--model", looking_bundle, "--min-confidence", 0, status=1)
    hint = f"outside of {page.parent}; pass the folder of the whole website"
    assert done.stdout == "" and done.stderr.splitlines()[-5:] == [
        f"{page}:1: image: no text proposed: template code",
        f"warning: {page}:2: ../../secret.jpg: no text proposed: {hint}",
        f"warning: {page}:3: dog\\x1b[2J.jpg: no text proposed: '{page.parent}/dog\\x1b[2J.jpg': no such file",
        "proposed 0 texts in 0 of 1 file",
        "write the text of 3 images yourself",
    ]


def test_write_removes_the_temporary_files_of_killed_processes(showtell, site, looking_bundle):
    code = (
        "import os, signal, sys; from showtell.utils.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as path: path.touch(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    for page in (site / "index.html", site / "blog" / "old.html"):
        subprocess.run([sys.executable, "-c", code, page], check=False)
    assert len(list(site.rglob(".*.lock"))) == 2
    showtell("alt-text", site, "--model", looking_bundle, "--min-confidence", 0, "--write")
    assert not list(site.rglob(".*"))


def test_a_diff_on_a_terminal_has_no_control_characters(tmp_path):
    pty = pytest.importorskip("pty")
    shutil.copy(EXAMPLES / SKATER, tmp_path / "a.jpg")
    page = tmp_path / "p.html"
    page.write_bytes(b'x\x1b]0;owned\x07 \xc2\x9b31m \xe2\x80\xae\t<img src="a.jpg">\n')
    command = [sys.executable, "-m", "showtell", "alt-text", page]
    assert b"\x1b]0;owned\x07" in subprocess.run(command, capture_output=True, check=True).stdout
    terminal, standard_output = pty.openpty()
    with os.fdopen(terminal, "rb", buffering=0) as reader:
        subprocess.run(command, stdout=standard_output, stderr=subprocess.DEVNULL, check=True)
        printed = reader.read(100_000)
    os.close(standard_output)
    assert rb"\x1b]0;owned\x07" in printed and b'\t<img alt="' in printed
    assert not {0x07, 0x1B, 0x9B} & set(printed)
