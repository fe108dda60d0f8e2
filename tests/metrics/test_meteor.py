import os
import shutil
import signal
import subprocess
import sys

import pytest

from showtell.errors import ConfigurationError, MissingExtra, ShowtellError
from showtell.metrics.meteor import meteor
from showtell.metrics.scores import score_captions, tokenize

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
def test_meteor_is_what_pycocoevalcap_says():
    module = pytest.importorskip("pycocoevalcap.meteor.meteor")
    truths = {index: [" ".join(caption) for caption in captions] for index, captions in enumerate(REFERENCES)}
    theirs, theirs_per_image = module.Meteor().compute_score(
        truths, {index: [" ".join(caption)] for index, caption in enumerate(CANDIDATES)}
    )
    candidates = {f"{index}.jpg": caption for index, (caption, _) in enumerate(CAPTIONS)}
    references = {f"{index}.jpg": captions for index, (_, captions) in enumerate(CAPTIONS)}
    assert score_captions(candidates, references).meteor is None
    scores = score_captions(candidates, references, meteor=True)
    assert scores.meteor == 100 * theirs
    assert scores.meteor_per_image == {f"{index}.jpg": 100 * value for index, value in enumerate(theirs_per_image)}
    dog, cats, nothing, _, bicycle = scores.meteor_per_image.values()
    assert cats == bicycle == 100 and nothing == 0 and 30 < dog < 100


@pytest.fixture
def a_java(tmp_path, monkeypatch):
    """Put a program of one's own where java is sought."""
    pytest.importorskip("pycocoevalcap")

    def install(script):
        (tmp_path / "java").write_text(f"#!{sys.executable}\n{script}\n")
        (tmp_path / "java").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return install


def test_a_java_that_gives_up_is_told_with_its_own_words(a_java):
    a_java("import sys; sys.stderr.write('There is no runtime here.\\nmore'); sys.exit(1)")
    with pytest.raises(ShowtellError, match=r"^METEOR: Java gave up: There is no runtime here\.$"):
        meteor(CANDIDATES, REFERENCES)


def test_java_is_ended_when_scoring_is_interrupted(a_java, tmp_path):
    # It answers one line, tells its number, and then would wait for ever.
    a_java(
        "import os, signal, sys, time; sys.stdin.readline(); print('1.0', flush=True)\n"
        f"open({str(tmp_path / 'number')!r}, 'w').write(str(os.getpid()))\n"
        "os.kill(os.getppid(), signal.SIGINT); time.sleep(600)"
    )
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            meteor(CANDIDATES, REFERENCES)
    finally:
        signal.signal(signal.SIGINT, previous)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "number").read_text()), 0)


def test_without_java_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"needs Java.*install a Java runtime"):
        meteor(CANDIDATES, REFERENCES)


def test_without_the_package_one_line_says_how_to_get_it(tmp_path):
    # A module of its name that is not there, as seen by a fresh interpreter.
    program = (
        "import sys; sys.modules['pycocoevalcap'] = None\n"
        "from showtell.errors import MissingExtra\nfrom showtell.metrics_meteor import meteor\n"
        "try: meteor([], [])\nexcept MissingExtra as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(MissingExtra("METEOR", "meteor"))
    assert "pip install 'showtell[meteor]'" in done.stdout
