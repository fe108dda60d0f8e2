import json
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from showtell.encoder import EncoderInfo
from showtell.errors import BundleError, ConfigurationError, ShowtellError
from showtell.images import Preprocess
from showtell.inference.bundle import Bundle
from showtell.inference.bundle_files import FILES, MANIFEST
from showtell.inference.confidence import Calibration, FeatureClusters
from showtell.inference.search_options import SearchOptions
from showtell.metrics import DocumentFrequencies
from showtell.vocabulary import Vocabulary


@pytest.fixture
def bundle():
    files = {name: onnx.ModelProto(doc_string=name).SerializeToString() for name in FILES}
    files["vocabulary.json"] = Vocabulary.from_words(["dog"]).to_json().encode()
    info = EncoderInfo("toy", "abc", Preprocess(8), 1, 3)
    return Bundle(info, {"kind": "toy"}, "float32", SearchOptions(suppress_tokens=(4,)), files, {"dev": {"cider": 1.5}})


@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_a_bundle_is_read_back_as_it_was_written(bundle, tmp_path, name):
    bundle.save(tmp_path / name)
    loaded = Bundle.load(tmp_path / name)
    assert loaded == bundle
    assert loaded.vocabulary.tokens[4:] == ("dog",)
    with pytest.raises(BundleError, match="already exists"):
        bundle.save(tmp_path / name)


def test_the_same_bundle_is_the_same_bytes(bundle, tmp_path):
    bundle.save(tmp_path / "a.zip")
    bundle.save(tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_damaged_incomplete_or_newer_folder_is_refused(bundle, tmp_path):
    bundle.save(tmp_path / "b")
    manifest = tmp_path / "b" / MANIFEST
    text = manifest.read_text()
    cases = {
        "bundle format 99": text.replace('"format_version": 3', '"format_version": 99'),
        "invalid bundle.json": text.replace('"squash"', '"stretch"'),
        "invalid bundle.json: Json": "{",
        "invalid bundle.json: RecursionError": "[" * 100_000,
        "invalid bundle.json: KeyError('format": "{}",
        "invalid bundle.json: TypeError": "[]",
    }
    for reason, content in cases.items():
        manifest.write_text(content)
        with pytest.raises(BundleError) as error:
            Bundle.load(tmp_path / "b")
        assert reason.lower() in str(error.value).lower()
    manifest.write_text(text)
    (tmp_path / "b" / "encoder.onnx").write_bytes(bundle.files["encoder.onnx"].replace(b".onnx", b".onnX"))
    with pytest.raises(BundleError, match=r"encoder\.onnx is damaged: its checksum differs"):
        Bundle.load(tmp_path / "b")
    (tmp_path / "b" / "encoder.onnx").write_bytes(b"encoder.onnx and more")
    with pytest.raises(BundleError, match=r"encoder\.onnx is damaged: its size differs"):
        Bundle.load(tmp_path / "b")
    (tmp_path / "b" / "encoder.onnx").unlink()
    with pytest.raises(BundleError, match=r"incomplete bundle: encoder\.onnx missing"):
        Bundle.load(tmp_path / "b")
    with pytest.raises(BundleError, match="no such bundle"):
        Bundle.load(tmp_path / "absent")


def test_archives_with_unexpected_files_or_wrong_sizes_are_rejected(bundle, tmp_path):
    bundle.save(tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "a") as archive:
        archive.writestr("../evil", b"x")
    with pytest.raises(BundleError, match=r"unexpected file '\.\./evil'"):
        Bundle.load(tmp_path / "b.zip")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "b.zip").read_bytes()[:100])
    with pytest.raises(BundleError, match=r"not a readable \.zip file"):
        Bundle.load(tmp_path / "cut.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (MANIFEST, *FILES):
            archive.writestr(name, b"")
    content = bytearray((tmp_path / "bomb.zip").read_bytes())
    place = content.rindex(b"encoder.onnx") - 46 + 24
    content[place : place + 4] = (0xFFFFFFF0).to_bytes(4, "little")  # it claims to unpack to 4 GB
    (tmp_path / "bomb.zip").write_bytes(content)
    with pytest.raises(BundleError, match="bundle too large"):
        Bundle.load(tmp_path / "bomb.zip")


def test_a_zip_bomb_is_refused_before_unpacking(bundle, tmp_path):
    replace(bundle, files={**bundle.files, "encoder.onnx": bytes(10_000_000)}).save(tmp_path / "bomb.zip")
    assert (tmp_path / "bomb.zip").stat().st_size < 20_000
    with pytest.raises(BundleError, match="compression ratio exceeds 50:1"):
        Bundle.load(tmp_path / "bomb.zip")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused_before_unpacking(bundle, tmp_path, compression):
    bundle.save(tmp_path / "b")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for path in (tmp_path / "b").iterdir():
            is_bomb = path.name == "encoder.onnx"
            archive.write(path, path.name) if not is_bomb else archive.writestr(path.name, bytes(100_000), compression)
    with pytest.raises(BundleError, match=r"'encoder\.onnx' has an unsupported compression"):
        Bundle.load(tmp_path / "b.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_entry_that_is_larger_than_declared_takes_no_memory(bundle, tmp_path, method):
    bundle.save(tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        contents = {name: archive.read(name) for name in sizes}
    contents["encoder.onnx"] = bytes(50_000_000)
    with zipfile.ZipFile(tmp_path / "b.zip", "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    content = bytearray((tmp_path / "b.zip").read_bytes())
    place = content.rindex(b"encoder.onnx") - 46 + 24
    content[place : place + 4] = sizes["encoder.onnx"].to_bytes(4, "little")
    (tmp_path / "b.zip").write_bytes(content)
    del content, contents
    tracemalloc.start()
    with pytest.raises(BundleError, match=r"not a readable \.zip file|checksum differs"):
        Bundle.load(tmp_path / "b.zip")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_encrypted_and_repeated_entries_are_refused(bundle, tmp_path):
    bundle.save(tmp_path / "encrypted.zip")
    content = bytearray((tmp_path / "encrypted.zip").read_bytes())
    content[content.rindex(b"encoder.onnx") - 46 + 8] |= 1
    (tmp_path / "encrypted.zip").write_bytes(content)
    with pytest.raises(BundleError, match=r"'encoder\.onnx' is encrypted"):
        Bundle.load(tmp_path / "encrypted.zip")
    bundle.save(tmp_path / "twice.zip")
    with zipfile.ZipFile(tmp_path / "twice.zip", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("encoder.onnx", b"another")
    with pytest.raises(BundleError, match="duplicate file names"):
        Bundle.load(tmp_path / "twice.zip")


def test_a_long_list_of_files_is_refused_before_reading_it(bundle, tmp_path):
    bundle.save(tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "a") as archive:
        for number in range(3000):
            archive.writestr(f"{number}", b"")
    with pytest.raises(BundleError, match="the list of its files is longer than 100,000 bytes"):
        Bundle.load(tmp_path / "b.zip")


@pytest.mark.parametrize(("name", "size"), [("vocabulary.json", 11_000_000), (MANIFEST, 2_000_000)])
def test_text_files_have_a_maximum_size(bundle, tmp_path, name, size):
    bundle.save(tmp_path / "b")
    with open(tmp_path / "b" / name, "ab") as file:
        file.truncate(size)
    with pytest.raises(BundleError, match=f"{name} is too large: {size:,} bytes"):
        Bundle.load(tmp_path / "b")


def test_a_zip_of_the_whole_folder_is_read(bundle, tmp_path):
    bundle.save(tmp_path / "captioner")
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.mkdir("captioner")
        archive.writestr("__MACOSX/captioner/._bundle.json", b"x")
        archive.writestr("captioner/.DS_Store", b"x")
        for path in (tmp_path / "captioner").iterdir():
            archive.write(path, f"captioner/{path.name}")
    assert Bundle.load(tmp_path / "packed.zip") == bundle


@pytest.mark.parametrize("folder", ["..", "../captioner", "a/b"])
def test_an_archive_with_paths_outside_its_folder_is_refused(bundle, tmp_path, folder):
    bundle.save(tmp_path / "captioner")
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        for path in (tmp_path / "captioner").iterdir():
            archive.write(path, f"{folder}/{path.name}")
    with pytest.raises(BundleError, match="unexpected file"):
        Bundle.load(tmp_path / "packed.zip")


def test_a_file_of_the_wrong_size_is_refused_without_reading_it(bundle, tmp_path):
    bundle.save(tmp_path / "b")
    with open(tmp_path / "b" / "encoder.onnx", "wb") as file:
        file.truncate(1_500_000_000)  # a sparse file
    tracemalloc.start()
    with pytest.raises(BundleError, match=r"encoder\.onnx is damaged: its size differs"):
        Bundle.load(tmp_path / "b")
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("read", [DocumentFrequencies.from_json, lambda text: Calibration.from_json(text, 3)])
def test_deeply_nested_json_is_refused(read):
    with pytest.raises(ShowtellError, match="ecursion"):
        read("[" * 100_000)


def test_a_model_with_external_weights_is_refused_before_it_runs(bundle, tmp_path):
    weights = numpy_helper.from_array(np.zeros(9, np.float32), "weights")
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../../secret")
    model = helper.make_model(helper.make_graph([], "graph", [], [], [weights])).SerializeToString()
    replace(bundle, files={**bundle.files, "decoder_step.onnx": model}).save(tmp_path / "b.zip")
    with pytest.raises(
        BundleError, match=r"decoder_step\.onnx is not allowed in a bundle: a weight is in an external file"
    ):
        Bundle.load(tmp_path / "b.zip")


@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_document_frequencies_survive_saving(bundle, tmp_path, name):
    assert bundle.document_frequencies is None
    content = '{"images":3,"counts":{"chien rouge été":2}}'.encode()
    more = replace(bundle, files={**bundle.files, "document_frequencies.json": content})
    more.save(tmp_path / name)
    loaded = Bundle.load(tmp_path / name)
    assert loaded == more
    assert loaded.document_frequencies.images == 3
    assert loaded.document_frequencies.counts == {"chien rouge été": 2}


def test_damaged_missing_and_foreign_document_frequencies_are_refused(bundle, tmp_path):
    content = DocumentFrequencies(3, {"a": 2}).to_json().encode()
    replace(bundle, files={**bundle.files, "document_frequencies.json": content}).save(tmp_path / "b")
    path = tmp_path / "b" / "document_frequencies.json"
    path.write_bytes(content.replace(b"2", b"3"))
    with pytest.raises(BundleError, match=r"document_frequencies\.json is damaged"):
        Bundle.load(tmp_path / "b")
    path.unlink()
    with pytest.raises(BundleError, match=r"document_frequencies\.json missing"):
        Bundle.load(tmp_path / "b")
    bundle.save(tmp_path / "c")
    (tmp_path / "c" / path.name).write_bytes(content)
    with pytest.raises(BundleError, match=r"invalid bundle\.json.*document_frequencies\.json"):
        Bundle.load(tmp_path / "c")


def test_the_fingerprint_identifies_a_bundle(bundle, tmp_path):
    bundle.save(tmp_path / "b")
    assert Bundle.load(tmp_path / "b").fingerprint == bundle.fingerprint
    others = [
        replace(bundle, precision="int8"),
        replace(bundle, files={**bundle.files, "encoder.onnx": b"another"}),
    ]
    assert len({bundle.fingerprint, *(other.fingerprint for other in others)}) == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data_license": "x" * 1001}, "a text is longer than 1000 characters"),
        ({"precision": "x" * 1001}, "a text is longer"),
        ({"decoder": {"kind": "x" * 1001}}, "a text is longer"),
        ({"decoder": {"x" * 1001: 1}}, "a text is longer"),
        ({"decoder": {"units": 10**400}}, "a number of the decoder exceeds"),
        ({"decoder": {"units": [1]}}, "not a scalar"),
        ({"decoder": {str(number): 1 for number in range(101)}}, "more than 100 entries"),
        ({"scores": {str(number): {} for number in range(101)}}, "more than 100 entries"),
        ({"scores": {"a": {"x" * 1001: 1.0}}}, "a text is longer"),
    ],
)
def test_the_manifest_has_bounds(bundle, change, reason):
    with pytest.raises(ConfigurationError, match=f"invalid bundle: .*{reason}"):
        replace(bundle, **change)


@pytest.mark.parametrize("change", [{"cells": 0}, {"cells": 10**9}, {"channels": 0}, {"channels": 10**9}])
def test_an_encoder_with_impossible_sizes_is_refused(bundle, tmp_path, change):
    bundle.save(tmp_path / "b")
    path = tmp_path / "b" / MANIFEST
    content = json.loads(path.read_text())
    content["encoder"].update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError, match="invalid encoder"):
        Bundle.load(tmp_path / "b")


@pytest.mark.parametrize("score", ["twelve", None, [12]])
def test_scores_must_be_numbers(bundle, tmp_path, score):
    replace(bundle, scores={"a": {"bleu_4": score}}).save(tmp_path / "b")
    with pytest.raises(BundleError, match="invalid bundle"):
        Bundle.load(tmp_path / "b")


def test_scores_are_saved_and_loaded(bundle, tmp_path):
    replace(bundle, scores={"a": {"bleu_4": 20.25}}).save(tmp_path / "b")
    assert json.loads((tmp_path / "b" / MANIFEST).read_text())["scores"] == {"a": {"bleu_4": 20.25}}


def test_a_calibration_for_another_encoder_is_refused(bundle):
    clusters = FeatureClusters(np.zeros(3), np.eye(3))
    content = Calibration(50.0, clusters, np.zeros(3), distance_threshold=0.4, decay=0.1).to_json().encode()
    calibrated = replace(bundle, files={**bundle.files, "calibration.json": content})
    assert calibrated.calibration is not None
    with pytest.raises(BundleError, match="for features with 5 channels"):
        replace(calibrated, encoder=replace(bundle.encoder, channels=5)).calibration  # noqa: B018
