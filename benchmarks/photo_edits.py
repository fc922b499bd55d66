"""Seventeen ways in which photographs come back, each a function of the pixels and a seed."""

import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

Edit = Callable[[Image.Image, np.random.Generator], Image.Image]
_TEXT = "look what we found on our holiday"


def edit(name: str, pixels: np.ndarray, seed: int) -> np.ndarray:
    """The photograph uint8 [h, w, 3] after the edit of that name."""
    edited = EDITS[name](Image.fromarray(pixels), np.random.default_rng(seed))
    return np.asarray(edited.convert("RGB"))


def _jpeg(picture: Image.Image, _: np.random.Generator) -> Image.Image:
    content = io.BytesIO()
    picture.save(content, "jpeg", quality=30)
    return Image.open(content).convert("RGB")


def _crop(share: float) -> Edit:
    """A window of this share of each side, at a random place."""

    def cut(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        width, height = round(picture.width * share), round(picture.height * share)
        left = int(rng.integers(0, picture.width - width + 1))
        top = int(rng.integers(0, picture.height - height + 1))
        return picture.crop((left, top, left + width, top + height))

    return cut


def _rotation(degrees: float) -> Edit:
    """To a random side, in a frame of the same size whose corners are black."""

    def turn(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        side = 1 if rng.random() < 0.5 else -1
        return picture.rotate(side * degrees, Image.Resampling.BICUBIC)

    return turn


def _border(picture: Image.Image, _: np.random.Generator) -> Image.Image:
    """White, a twentieth of the longer side wide, all around."""
    return ImageOps.expand(picture, round(0.05 * max(picture.size)), "white")


def _caption(picture: Image.Image, _: np.random.Generator) -> Image.Image:
    """A line of white letters on a dark bar over the lowest tenth."""
    captioned = picture.copy()
    draw, height = ImageDraw.Draw(captioned), picture.height // 10
    top = picture.height - height
    draw.rectangle((0, top, picture.width, picture.height), fill=(20, 20, 20))
    draw.text((picture.width // 20, top), _TEXT, fill="white", font_size=0.7 * height)
    return captioned


def _noise(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Gaussian, with a deviation of 15 grey levels, in each colour."""
    noisy = np.asarray(picture) + rng.normal(0, 15, (picture.height, picture.width, 3))
    return Image.fromarray(np.clip(np.round(noisy), 0, 255).astype(np.uint8))


EDITS: Mapping[str, Edit] = {
    "JPEG quality 30": _jpeg,
    "half size": lambda picture, _: picture.resize((picture.width // 2, picture.height // 2)),
    "grey": lambda picture, _: picture.convert("L"),
    "blur": lambda picture, _: picture.filter(ImageFilter.GaussianBlur(2)),
    "brightness": lambda picture, _: ImageEnhance.Brightness(picture).enhance(1.3),
    "contrast": lambda picture, _: ImageEnhance.Contrast(picture).enhance(1.4),
    "aspect": lambda picture, _: picture.resize((picture.width, round(0.8 * picture.height))),
    "flip": lambda picture, _: ImageOps.mirror(picture),
    "quarter turn": lambda picture, _: picture.transpose(Image.Transpose.ROTATE_90),
    "crop 90 %": _crop(0.9),
    "crop 80 %": _crop(0.8),
    "crop 60 %": _crop(0.6),
    "rotation 3 degrees": _rotation(3),
    "rotation 10 degrees": _rotation(10),
    "border": _border,
    "caption": _caption,
    "noise": _noise,
}
