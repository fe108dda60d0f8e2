import os
import shutil
import signal
import subprocess
import sys

import pytest

from showtell.errors import ConfigurationError, MissingExtra, ShowtellError
from showtell.metrics import score_captions, tokenize
from showtell.metrics.meteor import meteor

CAPTIONS = [
    ("A dog runs on the grass.", ["A dog is running across a lawn.", "The brown dog runs in the grass!"]),
    ("two cats sit on a sofa", ["Two cats sit on a sofa."]),
    ("", ["A child jumps into the sea."]),
    ("a man rides a horse", ["A woman reads a book.", "*", "Ein Mädchen liest | (ein) Buch"]),
    ("une fille à vélo", ["Une fille à vélo"]),
]
CANDIDATES = [tokenize(caption) for caption, _ in CAPTIONS]
REFERENCES = [[tokenize(text) for text in texts] for _, texts in CAPTIONS]


@pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")
def test_meteor_equals_pycocoevalcap():
    module = pytest.importorskip("pycocoevalcap.meteor.meteor")
    truths = {index: [" ".join(caption) for caption in captions] for index, captions in enumerate(REFERENCES)}
    expected, expected_per_image = module.Meteor().compute_score(
        truths, {index: [" ".join(caption)] for index, caption in enumerate(CANDIDATES)}
    )
    candidates = {f"{index}.jpg": caption for index, (caption, _) in enumerate(CAPTIONS)}
    references = {f"{index}.jpg": captions for index, (_, captions) in enumerate(CAPTIONS)}
    assert score_captions(candidates, references).meteor is None
    scores = score_captions(candidates, references, meteor=True)
    assert scores.meteor == 100 * expected
    assert scores.meteor_per_image == {f"{index}.jpg": 100 * value for index, value in enumerate(expected_per_image)}
    dog, cats, empty, _, bicycle = scores.meteor_per_image.values()
    assert cats == bicycle == 100 and empty == 0 and 30 < dog < 100


@pytest.fixture
def fake_java(tmp_path, monkeypatch):
    """Return a function that installs a Python script as the command java."""
    pytest.importorskip("pycocoevalcap")

    def install(script):
        (tmp_path / "java").write_text(f"#!{sys.executable}\n{script}\n")
        (tmp_path / "java").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return install


def test_the_error_message_of_java_is_reported(fake_java):
    fake_java("import sys; sys.stderr.write('There is no runtime here.\\nmore'); sys.exit(1)")
    with pytest.raises(ShowtellError, match=r"^METEOR: Java failed: There is no runtime here\.$"):
        meteor(CANDIDATES, REFERENCES)


def test_an_interrupt_stops_java(fake_java, tmp_path):
    # The program answers one line, writes its process id, interrupts its parent and waits forever.
    fake_java(
        "import os, signal, sys, time; sys.stdin.readline(); print('1.0', flush=True)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "os.kill(os.getppid(), signal.SIGINT); time.sleep(600)"
    )
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore SIGINT
    try:
        with pytest.raises(KeyboardInterrupt):
            meteor(CANDIDATES, REFERENCES)
    finally:
        signal.signal(signal.SIGINT, previous)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_missing_java_is_reported_with_a_hint(tmp_path, monkeypatch):
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"needs Java.*install a Java runtime"):
        meteor(CANDIDATES, REFERENCES)


def test_a_missing_package_is_reported_with_a_hint(tmp_path):
    # None in sys.modules makes an import fail. A fresh interpreter has not imported the package yet.
    program = (
        "import sys; sys.modules['pycocoevalcap'] = None\n"
        "from showtell.errors import MissingExtra\nfrom showtell.metrics.meteor import meteor\n"
        "try: meteor([], [])\nexcept MissingExtra as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(MissingExtra("METEOR", "meteor"))
    assert "pip install 'showtell[meteor]'" in done.stdout
