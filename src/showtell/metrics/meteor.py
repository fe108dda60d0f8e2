"""METEOR, by the program of its authors: it needs Java and the package pycocoevalcap, which brings that program."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from showtell.errors import ConfigurationError, ShowtellError, import_extra
from showtell.metrics.cider import Tokens

FEATURE = "METEOR"


def meteor_command() -> list[str]:
    """Return the command that runs METEOR 1.5 as coco-caption runs it; its stemmer and synonyms are for English.

    Raises:
        MissingExtra: if pycocoevalcap is not installed.
        ConfigurationError: if there is no Java.
    """
    module = import_extra("pycocoevalcap.meteor.meteor", FEATURE, "meteor")
    if shutil.which("java") is None:
        raise ConfigurationError(
            f"{FEATURE} needs Java, and there is no command java; install a Java runtime, such as default-jre-headless "
            "on Debian and Ubuntu"
        )
    jar = Path(module.__file__).parent / module.METEOR_JAR
    # Without the encoding, letters outside ASCII are lost where the locale is C.
    return ["java", "-Dfile.encoding=UTF-8", "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]


def meteor(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> tuple[float, np.ndarray]:
    """Return METEOR of the whole and of each image, (N,), between 0 and 1.

    Denkowski and Lavie 2014, version 1.5. That of the whole is made of the counts of all images, and is not the mean.

    Args:
        candidates: N tokenised captions.
        references: for each of them the tokenised captions of its image.

    Raises:
        MissingExtra: if pycocoevalcap is not installed.
        ConfigurationError: if there is no Java.
        ShowtellError: if Java ends before it has scored.
    """
    fields = [
        " ||| ".join(map(" ".join, (*captions, candidate)))
        for candidate, captions in zip(candidates, references, strict=True)
    ]
    with tempfile.TemporaryFile() as complaints:
        program = subprocess.Popen(  # noqa: S603
            meteor_command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            encoding="utf-8",
        )
        answers = iter(program.stdout or ())
        try:
            statistics = []
            for line in fields:
                print(f"SCORE ||| {line}", file=program.stdin, flush=True)
                statistics.append(next(answers, "").strip())
            print(" ||| ".join(["EVAL", *statistics]), file=program.stdin, flush=True)
            *per_image, whole = (float(next(answers, "")) for _ in range(len(fields) + 1))
        except (OSError, ValueError):
            complaints.seek(0)
            reason = complaints.read().decode(errors="replace").strip().partition("\n")[0]
            raise ShowtellError(f"{FEATURE}: Java gave up: {reason or 'it said nothing more'}") from None
        finally:
            program.kill()
            program.communicate()
    return whole, np.array(per_image)
