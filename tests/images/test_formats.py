"""Formats are an allow-list, and files that cost too much are refused before they are decoded."""

import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
import zoo
from PIL import Image

from showtell.errors import ImageError
from showtell.images import Preprocess, decode, decoding, limits


@pytest.mark.parametrize("format_", ["PPM", "TGA", "ICO", "PCX", "SGI", "DDS", "JPEG2000", "IM", "EPS", "PDF"])
def test_formats_that_are_not_documented_are_refused(format_):
    Image.init()
    if format_ not in Image.SAVE:
        pytest.skip(f"Pillow cannot write {format_}")
    with pytest.raises(ImageError, match=r"unsupported image format|EPS files are not supported"):
        decode(zoo.encode(zoo.photo(32), format_))


def test_an_eps_program_inside_of_an_iptc_file_is_not_run(tmp_path):
    # Pillow opens it as IPTC, which has no signature, and passes the content to the EPS decoder.
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n"
    fields = [((3, 60), b"\1\0"), ((3, 20), b"\0\x09"), ((3, 30), b"\0\x09"), ((3, 120), b"\5"), ((8, 10), program)]
    content = b"".join(b"\x1c" + bytes(tag) + len(value).to_bytes(2) + value for tag, value in fields)
    with pytest.raises(ImageError, match="not an image, or an unsupported image format"):
        decode(content)


def test_the_command_line_disables_ghostscript():
    program = """
from PIL import EpsImagePlugin
import showtell
assert EpsImagePlugin.gs_binary is not False  # a library leaves its host alone
import sys
from showtell.cli import main
sys.argv = ["showtell", "--version"]
try:
    main()
finally:
    assert EpsImagePlugin.gs_binary is False
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_opened_eps_image_is_refused():
    Image.init()
    with Image.open(BytesIO(zoo.encode(zoo.photo(32), "EPS"))) as image, pytest.raises(ImageError, match="EPS"):
        decode(image)


def test_only_the_decoder_of_the_file_is_loaded(tmp_path):
    zoo.photo(32).save(tmp_path / "a.webp")
    program = f"""
import sys
from showtell.images import decode
decode({str(tmp_path / "a.webp")!r})
assert "PIL.WebPImagePlugin" in sys.modules
assert not {{"PIL.EpsImagePlugin", "PIL.PsdImagePlugin", "PIL.IptcImagePlugin"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def many_scans(count):
    """Return a progressive JPEG with empty scans; each costs a pass over all blocks."""
    content = zoo.encode(Image.new("RGB", (640, 640)), progressive=True)
    return content[:-2] + bytes.fromhex("ffda 0008 0101 0001 3f00") * count + content[-2:]


def elongated(width, height):
    return zoo.truncated_png(width, height)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (many_scans(9000), "more than 60,000,000 JPEG blocks in all scans"),
        (b"\xff\xd8" + b"\xff\xfe\0\2" * 20_000 + zoo.encode(zoo.photo(32))[2:], "more than 10,000 JPEG segments"),
        (b"\xff\xd8\xff" + b"\xff" * 70_000 + zoo.encode(zoo.photo(32))[3:], "more than 65,536 bytes between"),
        (zoo.encode(zoo.photo(32), "WEBP")[:26] + b"\xff\x3f\xff\x3f", "3,220 MB of memory exceed the limit of 450 MB"),
        (b"GIF89a\1\0\1\0\0\0\0" + b"!\xfe\1a\0" * 60_000, "more than 100,000 GIF blocks"),
        (elongated(60_000_000, 1), "exceed the limit|damaged"),
    ],
    ids=["scans", "segments", "junk", "canvas", "blocks", "elongated"],
)
def test_files_that_cost_too_much_are_refused(content, reason):
    with pytest.raises(ImageError, match=reason) as error:
        Preprocess().load(content)
    assert "\n" not in str(error.value)


def test_a_few_scans_metadata_and_junk_are_decoded():
    content = zoo.encode(zoo.photo(64))
    padded = content[:2] + b"\xff\xfe\x7f\xff" + bytes(32_765) + b"\xff" * 99 + content[2:]
    assert np.array_equal(Preprocess().load(padded), Preprocess().load(content))
    assert Preprocess().load(many_scans(20)).shape == (224, 224, 3)


def test_large_files_may_use_memory_in_proportion_to_their_size():
    limits.check_memory(450_000_000, 0)
    with pytest.raises(limits.CostError):
        limits.check_memory(450_000_001, 50_000_000)
    limits.check_memory(800_000_000, 100_000_000)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "L", "1", "I;16", "I", "F"])
def test_large_images_are_converted_in_strips_without_changing_them(monkeypatch, mode):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 4), np.uint8)
    blocks = Image.fromarray(noise).resize((640, 480), Image.Resampling.NEAREST)
    image = {
        "I;16": lambda: Image.fromarray(np.asarray(blocks.convert("L")).astype(np.uint16) * 257),
        "I": lambda: Image.fromarray(np.asarray(blocks.convert("L")).astype(np.int32) * 1000),
        "F": lambda: blocks.convert("L").convert("F"),
        "P": lambda: blocks.convert("RGB").quantize(64),
    }.get(mode, lambda: blocks.convert(mode))()
    content = zoo.encode(image, "TIFF")
    whole = np.asarray(decode(content, at_least=30)).reshape(60, 8, 80, 8, 3).mean((1, 3))
    monkeypatch.setattr(decoding, "LARGE_IMAGE_PIXELS", 1000)
    monkeypatch.setattr(decoding, "STRIP_PIXELS", 7000)
    reduced = decode(content, at_least=30)
    assert reduced.size == (80, 60)
    assert np.abs(np.asarray(reduced).astype(float) - whole).max() <= 1


def test_the_orientation_of_a_large_image_is_applied(monkeypatch):
    monkeypatch.setattr(decoding, "LARGE_IMAGE_PIXELS", 1000)
    exif = Image.Exif()
    exif[0x0112] = 6
    for format_ in ("PNG", "TIFF", "WEBP"):
        content = zoo.encode(Image.new("RGB", (640, 480)), format_, exif=exif)
        assert decode(content, at_least=30).size == (60, 80)
