"""A data set to learn with: pictures of coloured shapes and their captions, drawn in seconds, learnt in two minutes."""

import csv
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from showtell.errors import ConfigurationError
from showtell.utils.files import atomic_write

SIDE = 224
_FINER = 3  # a picture is drawn so many times larger, then shrunk, for smooth edges


def _arc(start: float, stop: float, radius: float = 1.0, centre: float = 0.0) -> np.ndarray:
    """Return points (73, 2) on a circle about (centre, 0), from one angle to another, in degrees."""
    angles = np.radians(np.linspace(start, stop, 73))
    return np.stack([centre + radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _corners(*radii: float, first: float = -90.0) -> np.ndarray:
    """Return a polygon (N, 2) whose corners are so far from its centre, at equal angles from `first` on."""
    angles = np.radians(first + 360 * np.arange(len(radii)) / len(radii))
    return np.array(radii)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _heart() -> np.ndarray:
    turn = np.radians(np.arange(0, 360, 5))
    up = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
    return np.stack([16 * np.sin(turn) ** 3, -2.5 - up], axis=1) / 15


# Features that are averaged over the picture see textures and shapes well, but flat colour badly. The attributes below
# were chosen so that each can be told from such features almost without error; so were the shading and the dark edge
# of the shapes, and the greyness of the backgrounds.
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
SHAPES = {  # outlines of about unit radius, y downwards
    "circle": _arc(0, 360),
    "square": _corners(1.2, 1.2, 1.2, 1.2, first=-45),
    "triangle": _corners(1.3, 1.3, 1.3),
    "star": _corners(*[1.3, 0.55] * 5),
    "heart": _heart(),
    "moon": np.concatenate([_arc(50, 310), _arc(280.6, 79.4, radius=0.779, centre=0.5)]),
}
BACKGROUNDS = ("plain", "striped", "dotted", "checked")
RELATIONS = {"above": (0, 1), "to the left of": (1, 0)}  # where the second shape lies, seen from the first


def write(folder: str | Path, images: int = 600, seed: int = 0, relations: bool = False) -> None:
    """Draw a data set in the image-folder format: `folder/metadata.csv` and PNG files in `folder/images`.

    The columns of the table are file_name, text and split. Each picture, of 224 × 224 pixels, has two captions, such
    as "a large red star on a striped background" and "there is" before the same words; one in five is for validation.
    No caption of a validation picture belongs to a training picture, so it cannot be known by heart.

    Args:
        folder: made if it is missing; files of the same names are replaced.
        images: the number of pictures.
        seed: equal seeds give equal files.
        relations: if true, pictures show two shapes, and the caption says how they lie to each other, as in "a small
            blue square above a large white moon on a plain background". It takes grid features to learn that.

    Raises:
        ConfigurationError: if there are too few images to have one for validation, or the seed is negative.
    """
    if images < 5:
        raise ConfigurationError(f"{images} images cannot be split into training and validation: draw at least 5")
    if seed < 0:
        raise ConfigurationError(f"seed is {seed}; it must be at least 0")
    folder = Path(folder)
    random = np.random.default_rng(seed)
    kinds = random.permutation(list(product(RADII, COLOURS, SHAPES, BACKGROUNDS))).tolist()
    rows = [("file_name", "text", "split")]
    for index in range(images):
        kind = index % len(kinds)
        *first, background = kinds[kind]
        picture = _background(background, random)
        if relations:
            *second, _ = kinds[random.integers(len(kinds))]
            relation = list(RELATIONS)[random.integers(len(RELATIONS))]
            away = SIDE / 4 * np.array(RELATIONS[relation])
            _draw(picture, first, SIDE / 2 - away, 0.66, random)
            _draw(picture, second, SIDE / 2 + away, 0.66, random)
            shown = f"a {' '.join(first)} {relation} a {' '.join(second)}"
        else:
            _draw(picture, first, SIDE / 2 + random.uniform(-24, 24, 2), 1.0, random)
            shown = f"a {' '.join(first)}"
        name = f"images/{index:04}.png"
        with atomic_write(folder / name) as temporary:
            picture.resize((SIDE, SIDE), Image.Resampling.BOX).save(temporary)
        caption = f"{shown} on a {background} background"
        # By the kind, not by the picture: see above.
        split = "val" if kind % 5 == 4 else "train"
        rows += [(name, caption, split), (name, f"there is {caption}", split)]
    with atomic_write(folder / "metadata.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _background(pattern: str, random: np.random.Generator) -> Image.Image:
    """Return a light grey picture, _FINER times as large as is wanted, with a pattern in a darker grey."""
    y, x = np.ogrid[: SIDE * _FINER, : SIDE * _FINER]
    period = _FINER * random.integers(22, 34)
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


def _draw(
    picture: Image.Image, thing: list[str], centre: np.ndarray, scale: float, random: np.random.Generator
) -> None:
    """Draw a thing (size, colour, shape) at a centre in pixels, a little tilted, lighter above and darker below."""
    size, colour, shape = thing
    radius = scale * RADII[size] * random.uniform(0.93, 1.07)
    tilt = np.radians(random.uniform(-10, 10))
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    outline = _FINER * (radius * SHAPES[shape] @ turn + centre)
    fill = np.array(COLOURS[colour]) + random.integers(-4, 5, 3)

    def shade(factor: float) -> tuple[int, int, int]:
        red, green, blue = (fill * factor).clip(0, 255).astype(int).tolist()
        return red, green, blue

    left, top = np.floor(outline.min(axis=0)).astype(int).tolist()
    right, bottom = np.ceil(outline.max(axis=0)).astype(int).tolist()
    gradient = Image.linear_gradient("L").resize((right - left, bottom - top))
    stencil = Image.new("L", gradient.size)
    ImageDraw.Draw(stencil).polygon([(x - left, y - top) for x, y in outline.tolist()], fill=255)
    picture.paste(ImageOps.colorize(gradient, black=shade(1.15), white=shade(0.7)), (left, top), stencil)
    edge = [(x, y) for x, y in np.concatenate([outline, outline[:2]]).tolist()]  # on to the second point: a full joint
    ImageDraw.Draw(picture).line(edge, fill=shade(0.6), width=3 * _FINER, joint="curve")
