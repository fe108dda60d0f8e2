"""METEOR 1.5 (Denkowski and Lavie, 2014, https://aclanthology.org/W14-3348), computed by its authors' Java program.

It needs Java and the package pycocoevalcap, which contains the program.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from showtell.errors import ConfigurationError, ShowtellError, import_extra
from showtell.metrics.ngrams import Tokens


def meteor_command() -> list[str]:
    """Return the command that runs METEOR like coco-caption, with the stemmer and synonyms for English.

    Raises:
        MissingExtra: if pycocoevalcap is not installed.
        ConfigurationError: if Java is not installed.
    """
    module = import_extra("pycocoevalcap.meteor.meteor", "METEOR", "meteor")
    if shutil.which("java") is None:
        raise ConfigurationError(
            "METEOR needs Java, but the command java was not found; install a Java runtime, such as "
            "default-jre-headless on Debian and Ubuntu"
        )
    jar = Path(module.__file__).parent / module.METEOR_JAR
    # Without the encoding, Java loses non-ASCII letters in the C locale.
    return ["java", "-Dfile.encoding=UTF-8", "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]


def meteor(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> tuple[float, np.ndarray]:
    """Return METEOR of the corpus and of each image, (N,), between 0 and 1.

    The corpus score is computed from the summed statistics of all images. It is not the mean of the image scores.

    Args:
        candidates: N tokenised captions.
        references: the tokenised reference captions of each image.

    Raises:
        MissingExtra: if pycocoevalcap is not installed.
        ConfigurationError: if Java is not installed.
        ShowtellError: if Java fails.
    """
    lines = [
        " ||| ".join(map(" ".join, (*captions, candidate)))
        for candidate, captions in zip(candidates, references, strict=True)
    ]
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(  # noqa: S603
            meteor_command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            encoding="utf-8",
        )
        output = iter(process.stdout or ())
        try:
            statistics = []
            for line in lines:
                print(f"SCORE ||| {line}", file=process.stdin, flush=True)
                statistics.append(next(output, "").strip())
            print(" ||| ".join(["EVAL", *statistics]), file=process.stdin, flush=True)
            *per_image, corpus = (float(next(output, "")) for _ in range(len(lines) + 1))
        except (OSError, ValueError):
            stderr.seek(0)
            reason = stderr.read().decode(errors="replace").strip().partition("\n")[0]
            raise ShowtellError(f"METEOR: Java failed: {reason or 'no error message'}") from None
        finally:
            process.kill()
            process.communicate()
    return corpus, np.array(per_image)
