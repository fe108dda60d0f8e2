import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import zoo
from helpers import EXAMPLES
from PIL import Image

from showtell.errors import ConfigurationError, ImageError
from showtell.images import Preprocess, decode, decoding, find_images, list_images

RED, BLUE = (255, 0, 0), (0, 0, 255)


def save(path, mode, colour, **options):
    Image.new(mode, (8, 6), colour).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "mode", "colour", "expected"),
    [
        ("grey.png", "L", 100, (100, 100, 100)),
        ("bits.png", "1", 1, (255, 255, 255)),
        ("palette.png", "P", 0, (0, 0, 0)),
        ("red.png", "RGB", RED, RED),
        ("clear.png", "RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("half.png", "LA", (0, 0), (255, 255, 255)),
        ("deep.png", "I;16", 0x8080, (128, 128, 128)),
        ("print.tif", "CMYK", (0, 255, 255, 0), RED),
        ("moving.gif", "RGB", (255, 255, 255), (255, 255, 255)),
        ("web.webp", "RGB", (255, 255, 255), (255, 255, 255)),
    ],
)
def test_every_pixel_format_is_converted_to_the_displayed_rgb_colour(tmp_path, name, mode, colour, expected):
    image = decode(save(tmp_path / name, mode, colour))
    assert image.mode == "RGB"
    assert image.getpixel((3, 3)) == pytest.approx(expected, abs=2)


def test_all_eight_exif_orientations_give_the_same_image(tmp_path):
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[:2, :3], upright[2:, 3:] = RED, BLUE
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }
    for orientation, pixels in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.png"
        Image.fromarray(np.ascontiguousarray(pixels)).save(path, exif=exif)
        assert np.array_equal(np.asarray(decode(path)), upright), orientation


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_an_image_with_invalid_exif_is_not_rotated():
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:2, :3] = RED
    for exif in (b"", b"MM", b"MM\0*\0\0\0", b"MM\0*\xff\xff\xff\xff", b"no metadata at all"):
        file = BytesIO()
        Image.fromarray(pixels).save(file, "PNG", exif=b"Exif\0\0" + exif)
        assert np.array_equal(np.asarray(decode(file.getvalue())), pixels), exif


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_is_shown(format_):
    file = BytesIO()
    others = [Image.new("RGB", (8, 6), BLUE)] * 2
    Image.new("RGB", (8, 6), RED).save(file, format_, save_all=True, append_images=others)
    with Image.open(BytesIO(file.getvalue())) as image:
        assert image.n_frames > 1
    assert decode(file.getvalue()).getpixel((3, 3)) == pytest.approx(RED, abs=2)


def test_cmyk_colours_are_correct_with_and_without_the_adobe_marker():
    file = BytesIO()
    Image.new("CMYK", (8, 6), (0, 255, 255, 0)).save(file, "JPEG", quality=95)
    for content in (file.getvalue(), zoo.without_adobe_marker(file.getvalue())):
        assert decode(content).getpixel((3, 3)) == pytest.approx(RED, abs=4)


def test_nan_and_infinite_pixels_are_decoded(tmp_path):
    pixels = np.array([[np.nan, np.inf, -np.inf], [0, 1, 2]], np.float32)
    Image.fromarray(pixels).save(tmp_path / "float.tif")
    assert np.asarray(decode(tmp_path / "float.tif"))[..., 0].tolist() == [[0, 0, 0], [0, 128, 255]]


def test_the_command_line_hides_pillows_warnings(showtell, tmp_path):
    photograph = zoo.encode(zoo.photo())
    broken = photograph[:2] + bytes.fromhex("ffe1 0010") + b"Exif\0\0MM\0*\0\0\xff\xff" + photograph[2:]
    for name, content in {"a.jpg": photograph, "b.jpg": broken, "c.png": zoo.truncated_png(10_000, 10_000)}.items():
        (tmp_path / name).write_bytes(content)
    stderr = showtell("caption", tmp_path, status=1).stderr  # the large image is truncated
    assert "Warning" not in stderr and "c.png" in stderr


def test_large_images_are_decoded_one_at_a_time(tmp_path):
    program = """
import resource, sys
from showtell.images import Preprocess

for loaded in Preprocess().load_all(sys.argv[1:]):
    assert loaded.shape == (224, 224, 3)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    path = tmp_path / "large.png"
    Image.new("RGBA", (5200, 5200)).save(path, compress_level=1)
    # The command line sets the same block size, so that Pillow returns memory to the system.
    environment = {**os.environ, "OMP_NUM_THREADS": "8", "PILLOW_BLOCK_SIZE": "64M"}
    peaks = []
    for count in (1, 4):
        command = [sys.executable, "-c", program, *[str(path)] * count]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout))
    one, four = peaks
    assert four < 2 * one


def test_bytes_are_decoded_like_files(tmp_path):
    path = save(tmp_path / "red.png", "RGB", RED)
    assert np.array_equal(np.asarray(decode(path.read_bytes())), np.asarray(decode(path)))


def test_files_that_are_not_images_give_a_one_line_error_with_their_name(tmp_path):
    whole = (EXAMPLES / "000000126107.jpg").read_bytes()
    cases = {"empty.jpg": b"", "text.png": b"hello", "cut.jpg": whole[: len(whole) // 2], "head.jpg": whole[:300]}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    for name in (*cases, "folder.jpg", "broken.jpg", "pipe.jpg", "absent.jpg"):
        with pytest.raises(ImageError, match=name) as error:
            decode(tmp_path / name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"\0\0\0\x18ftypheic", "HEIC needs a decoder; install it|HEIC decoder does not support it"),
        (b"\0\0\0\x18ftypmif1", "HEIC needs a decoder; install it|HEIC decoder does not support it"),
        (b"\0\0\0\x18ftypcrx ", "camera RAW files are not supported; export the image as JPEG"),
        (b"FUJIFILMCCD-RAW 0201", "camera RAW files are not supported; export the image as JPEG"),
        (b"IIRO\x08\0", "camera RAW files are not supported; export the image as JPEG"),
    ],
)
def test_heic_and_raw_files_get_their_own_error_message(tmp_path, head, reason):
    content = head + bytes(200)
    (tmp_path / "a.jpg").write_bytes(content)
    for source in (content, tmp_path / "a.jpg"):
        with pytest.raises(ImageError, match=reason):
            decode(source)
    with pytest.raises(ImageError, match="not an image, or an unsupported image format"):
        decode(b"." + content)


def test_heic_without_a_decoder_gives_an_installation_hint():
    program = """
import sys
sys.modules["pillow_heif"] = None  # as if it were not installed
from showtell.images import decode
decode(bytes(4) + b"ftypheic" + bytes(99))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "HEIC needs a decoder; install it with: pip install 'showtell[heic]', or export" in done.stderr


def test_heic_is_read_if_the_decoder_is_installed(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    grey = np.full((64, 64, 3), 100, np.uint8)
    heif.from_pillow(Image.fromarray(grey)).save(tmp_path / "phone.heic")
    # A new process, because Pillow may already know the decoder in this one.
    program = f"from showtell.images import decode; print(decode({str(tmp_path / 'phone.heic')!r}).getpixel((9, 9)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert eval(done.stdout) == pytest.approx((100, 100, 100), abs=3)


def test_an_image_with_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_PIXELS", 47)
    with pytest.raises(ImageError, match="8 x 6 is more than 47 pixels"):
        decode(save(tmp_path / "large.png", "RGB", RED))


def test_squash_keeps_the_whole_image_and_crop_keeps_the_centre(tmp_path):
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    image = Image.fromarray(pixels)
    squashed, cropped = Preprocess(12, "squash", "bilinear")(image), Preprocess(12, "crop", "bilinear")(image)
    assert squashed.shape == cropped.shape == (12, 12, 3)
    assert squashed[:, 0].max() == 0 and squashed[:, 6].min() == 255
    assert cropped[:, 1:-1].min() == 255


def test_decoding_at_a_reduced_scale_changes_the_pixels_little():
    path = EXAMPLES / "000000126107.jpg"
    preprocess = Preprocess(112)
    fast, exact = preprocess.load(path).astype(float), preprocess(decode(path)).astype(float)
    assert np.abs(fast - exact).mean() < 2


def test_invalid_preprocessing_values_are_rejected():
    for wrong in ({"size": 0}, {"resize": "stretch"}, {"interpolation": "cubic"}):
        with pytest.raises(ConfigurationError):
            Preprocess(**wrong)


def test_load_all_keeps_the_order_and_yields_errors_in_place(tmp_path):
    paths = []
    for number in range(60):
        path = tmp_path / f"{number}.png"
        if number % 7 == 3:
            path.write_bytes(b"no image")
        else:
            save(path, "RGB", (number, 0, 0))
        paths.append(path)
    loaded = list(Preprocess(4).load_all(iter(paths)))
    for number, item in enumerate(loaded):
        if number % 7 == 3:
            assert isinstance(item, ImageError) and f"{number}.png" in str(item)
        else:
            assert item[0, 0, 0] == number


def test_a_folder_without_read_permission_is_reported(tmp_path, monkeypatch):
    save(tmp_path / "a.png", "RGB", RED)
    (tmp_path / "private").mkdir()
    listing = os.scandir

    def refusing(path):  # root may list every folder
        if Path(path).name == "private":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert list(find_images([tmp_path])) == [tmp_path / "a.png", tmp_path / "private"]
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ImageError, match="private': a folder without read permission"):
        decode(tmp_path / "private")


def test_finding_images_in_folders_and_naming_them(tmp_path):
    for name in ("b.JPG", "a.png", "sub/c.webp", "notes.txt", ".hidden.png", ".cache/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in find_images([tmp_path])] == [
        "a.png",
        "b.JPG",
        "sub/c.webp",
    ]
    assert [name for name, _ in list_images(tmp_path)] == ["a.png", "b.JPG", "sub/c.webp"]
    assert list(find_images([tmp_path / "absent.jpg"])) == [tmp_path / "absent.jpg"]
    with pytest.raises(ImageError, match="no such folder, or no images in it"):
        list_images(tmp_path / ".cache" / "none")
