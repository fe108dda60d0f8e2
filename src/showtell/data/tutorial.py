"""The tutorial data set: images of coloured shapes with captions. Drawing takes seconds, training two minutes."""

import csv
import io
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from showtell.errors import ConfigurationError
from showtell.utils.files import atomic_write

IMAGE_SIZE = 224
_SUPERSAMPLING = 3  # images are drawn at this scale and then reduced, for smooth edges


def _arc(start: float, stop: float, radius: float = 1.0, centre: float = 0.0) -> np.ndarray:
    """Return 73 points (73, 2) on a circle around (centre, 0), from one angle in degrees to another."""
    angles = np.radians(np.linspace(start, stop, 73))
    return np.stack([centre + radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _polygon(*radii: float, first: float = -90.0) -> np.ndarray:
    """Return the corners (N, 2) of a polygon with given distances from the centre, at equal angles from `first` on."""
    angles = np.radians(first + 360 * np.arange(len(radii)) / len(radii))
    return np.array(radii)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _heart() -> np.ndarray:
    angle = np.radians(np.arange(0, 360, 5))
    height = 13 * np.cos(angle) - 5 * np.cos(2 * angle) - 2 * np.cos(3 * angle) - np.cos(4 * angle)
    return np.stack([16 * np.sin(angle) ** 3, -2.5 - height], axis=1) / 15


# Pooled features represent textures and shapes well, but uniform colours poorly. The attributes below, the shading and
# dark outline of the shapes, and the grey backgrounds were chosen so that a model can recognise all attributes from
# pooled features with almost no errors.
RADII = {"small": 30.0, "large": 60.0}  # in pixels
COLOURS = {
    "red": (215, 30, 35),
    "orange": (255, 140, 20),
    "yellow": (250, 215, 30),
    "green": (40, 150, 60),
    "blue": (30, 90, 200),
    "purple": (110, 30, 160),
    "black": (25, 25, 25),
    "white": (255, 255, 255),
}
SHAPES = {  # outlines with a radius of about 1; y points down
    "circle": _arc(0, 360),
    "square": _polygon(1.2, 1.2, 1.2, 1.2, first=-45),
    "triangle": _polygon(1.3, 1.3, 1.3),
    "star": _polygon(*[1.3, 0.55] * 5),
    "heart": _heart(),
    "moon": np.concatenate([_arc(50, 310), _arc(280.6, 79.4, radius=0.779, centre=0.5)]),
}
BACKGROUNDS = ("plain", "striped", "dotted", "checked")
RELATIONS = {"above": (0, 1), "to the left of": (1, 0)}  # direction from the first shape to the second


def write_tutorial_data(folder: str | Path, images: int = 600, seed: int = 0, relations: bool = False) -> None:
    """Draw a data set in the imagefolder format: `folder/metadata.csv`, and PNG files in `folder/images`.

    The table has the columns file_name, text and split. Each image of 224 x 224 pixels has two captions: one like "a
    large red star on a striped background", and the same with "there is" in front. One image in five is for validation.
    No caption of a validation image occurs in training, so the model cannot memorise it.

    Args:
        folder: the output folder; created if missing.
        images: number of images, at least 5.
        seed: random seed. The same seed creates the same files.
        relations: draw two shapes per image, with their relative position in the caption, as in "a small blue square
            above a large white moon on a plain background". A model needs grid features to learn it.

    Raises:
        ConfigurationError: if `images` or `seed` is too small, or a file with the same name has different content.
    """
    if images < 5:
        raise ConfigurationError(f"{images} images are too few for a training and a validation split; draw at least 5")
    if seed < 0:
        raise ConfigurationError(f"seed is {seed}; it must be at least 0")
    folder = Path(folder)
    random = np.random.default_rng(seed)
    combinations = random.permutation(list(product(RADII, COLOURS, SHAPES, BACKGROUNDS))).tolist()
    rows = [("file_name", "text", "split")]
    for index in range(images):
        combination = index % len(combinations)
        *first, background = combinations[combination]
        image = _draw_background(background, random)
        if relations:
            *second, _ = combinations[random.integers(len(combinations))]
            relation = list(RELATIONS)[random.integers(len(RELATIONS))]
            offset = IMAGE_SIZE / 4 * np.array(RELATIONS[relation])
            _draw_shape(image, first, IMAGE_SIZE / 2 - offset, 0.66, random)
            _draw_shape(image, second, IMAGE_SIZE / 2 + offset, 0.66, random)
            subject = f"a {' '.join(first)} {relation} a {' '.join(second)}"
        else:
            _draw_shape(image, first, IMAGE_SIZE / 2 + random.uniform(-24, 24, 2), 1.0, random)
            subject = f"a {' '.join(first)}"
        name = f"images/{index:04}.png"
        content = io.BytesIO()
        image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX).save(content, "png")
        _write_new(folder / name, content.getvalue())
        caption = f"{subject} on a {background} background"
        # Images with the same caption are in the same split.
        split = "val" if combination % 5 == 4 else "train"
        rows += [(name, caption, split), (name, f"there is {caption}", split)]
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    _write_new(folder / "metadata.csv", table.getvalue().encode())


def _write_new(path: Path, content: bytes) -> None:
    """Write a file, unless an earlier run of the same command wrote it."""
    if not path.exists():
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    elif path.read_bytes() != content:
        raise ConfigurationError(f"{path}: already exists with different content; choose a new folder")


def _draw_background(pattern: str, random: np.random.Generator) -> Image.Image:
    """Return a light grey image with a pattern in a darker grey, _SUPERSAMPLING times as large as the result."""
    y, x = np.ogrid[: IMAGE_SIZE * _SUPERSAMPLING, : IMAGE_SIZE * _SUPERSAMPLING]
    period = _SUPERSAMPLING * random.integers(22, 34)
    match pattern:
        case "striped":
            dark = (x + y) % period < period / 2
        case "dotted":
            dark = np.hypot(x % period - period / 2, y % period - period / 2) < 0.3 * period
        case "checked":
            dark = (x // period + y // period) % 2 == 1
        case _:
            dark = np.zeros(np.broadcast_shapes(x.shape, y.shape), dtype=bool)
    light = random.integers(185, 206)
    return Image.fromarray((light - 20 * dark).astype(np.uint8)).convert("RGB")


def _draw_shape(
    image: Image.Image, attributes: list[str], centre: np.ndarray, scale: float, random: np.random.Generator
) -> None:
    """Draw a shape, slightly rotated and shaded from light at the top to dark at the bottom.

    Args:
        image: the image to draw on.
        attributes: size, colour and shape.
        centre: (x, y) in pixels.
        scale: factor of the size.
        random: random generator for the variation in size, angle and colour.
    """
    size, colour, shape = attributes
    radius = scale * RADII[size] * random.uniform(0.93, 1.07)
    angle = np.radians(random.uniform(-10, 10))
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    outline = _SUPERSAMPLING * (radius * SHAPES[shape] @ rotation + centre)
    fill = np.array(COLOURS[colour]) + random.integers(-4, 5, 3)

    def shade(factor: float) -> tuple[int, int, int]:
        red, green, blue = (fill * factor).clip(0, 255).astype(int).tolist()
        return red, green, blue

    left, top = np.floor(outline.min(axis=0)).astype(int).tolist()
    right, bottom = np.ceil(outline.max(axis=0)).astype(int).tolist()
    gradient = Image.linear_gradient("L").resize((right - left, bottom - top))
    mask = Image.new("L", gradient.size)
    ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in outline.tolist()], fill=255)
    image.paste(ImageOps.colorize(gradient, black=shade(1.15), white=shade(0.7)), (left, top), mask)
    edge = [
        (x, y) for x, y in np.concatenate([outline, outline[:2]]).tolist()
    ]  # up to the second point, so that the last joint is drawn
    ImageDraw.Draw(image).line(edge, fill=shade(0.6), width=3 * _SUPERSAMPLING, joint="curve")
