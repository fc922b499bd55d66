"""Pictures that look a little like photographs: shapes of many sizes, different for each seed."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def scene(seed: int, width: int = 200, height: int = 150) -> Image.Image:
    rng = np.random.default_rng(seed)

    def colour() -> tuple[int, ...]:
        return tuple(rng.integers(0, 256, 3).tolist())

    picture = Image.new("RGB", (width, height), colour())
    draw = ImageDraw.Draw(picture)
    for size in (90, 60, 60, 40, 40, *[25] * 8, *[12] * 16):
        x, y = int(rng.integers(-20, width)), int(rng.integers(-20, height))
        box = (x, y, x + size * rng.uniform(0.5, 1.5), y + size * rng.uniform(0.5, 1.5))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(box, fill=colour())
    return picture.filter(ImageFilter.GaussianBlur(1))


def crop(picture: Image.Image, side: float, left: float, top: float) -> Image.Image:
    """A part of this share of each side, at these shares of what is left."""
    width, height = side * picture.width, side * picture.height
    x, y = left * (picture.width - width), top * (picture.height - height)
    return picture.crop((round(x), round(y), round(x + width), round(y + height)))
