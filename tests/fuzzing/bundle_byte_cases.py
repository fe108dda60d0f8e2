"""Bundles with damaged bytes or strange values, mostly with correct checksums."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import zoo
from byte_mutator import alter_json, mutate
from helpers import LOOKING_GRAPHS, save_looking_bundle
from runner import Case

from showtell.inference.bundle import Bundle
from showtell.inference.captioner import Captioner
from showtell.inference.confidence import Calibration, FeatureClusters
from showtell.metrics.cider import DocumentFrequencies

ARCHIVE = "the .zip file itself"


def byte_case(folder: Path) -> Case:
    """Load damaged bundles and caption an image with them."""
    plain = Bundle.load(save_looking_bundle(folder / "tiny", LOOKING_GRAPHS))
    clusters = FeatureClusters(np.zeros(1), np.eye(1))
    calibration = Calibration(50.0, clusters, np.zeros(3), distance_threshold=0.4, decay=0.1)
    optional_files = {
        "calibration.json": calibration.to_json().encode(),
        "document_frequencies.json": DocumentFrequencies(3, {"a": 2, "a dog": 1}).to_json().encode(),
    }
    bundle = replace(plain, files={**plain.files, **optional_files})
    image = zoo.encode(zoo.photo(96))

    def case(generator: np.random.Generator) -> None:
        path = _write_damaged(bundle, folder, generator)
        loaded = Bundle.load(path)
        (result,) = Captioner([loaded]).caption([image])
        assert loaded.document_frequencies
        assert result.error is not None or result.captions[0].text is not None

    return case


def _write_damaged(bundle: Bundle, folder: Path, generator: np.random.Generator) -> Path:
    shutil.rmtree(folder / "damaged", ignore_errors=True)
    (folder / "damaged.zip").unlink(missing_ok=True)
    names = sorted({*bundle.files, "bundle.json", ARCHIVE} - {"MODEL_CARD.md"})
    name = names[generator.integers(len(names))]
    damage = alter_json if name.endswith(".json") and generator.random() < 0.7 else mutate
    if name == "bundle.json":
        bundle.save(folder / "damaged")
        manifest = folder / "damaged" / name
        manifest.write_bytes(damage(manifest.read_bytes(), generator))
        return folder / "damaged"
    path = folder / "damaged.zip"
    if name == ARCHIVE:
        bundle.save(path)
        path.write_bytes(mutate(path.read_bytes(), generator))
    else:
        replace(bundle, files={**bundle.files, name: damage(bundle.files[name], generator)}).save(path)
    return path
