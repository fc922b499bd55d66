"""Real photographs that scikit-learn ships, cut and saved as the tests need them."""

import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


@functools.cache
def _originals() -> list[Image.Image]:
    from sklearn.datasets import load_sample_images  # 640 x 427 each

    return [Image.fromarray(array) for array in load_sample_images().images]


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """A part of one of the two photographs, different for each seed."""
    original = _originals()[seed % 2]
    random = np.random.default_rng(seed)
    w = int(random.integers(200, 641))
    h = int(random.integers(150, 428))
    left, top = int(random.integers(0, 641 - w)), int(random.integers(0, 428 - h))
    return original.resize(
        (width, height), Image.Resampling.BICUBIC, (left, top, left + w, top + h)
    )


def encoded(image: Image.Image, file_format: str = "JPEG", **options: Any) -> bytes:
    """The bytes of a file with this image."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def write_lists(
    directory: Path, count: int, *, num_train: int, num_query: int, size: tuple[int, int] = (40, 30)
) -> list[str]:
    """Makes `count` photographs with 3 labels and their three lists; returns the names.

    The first images are the queries, the next train, and all but the queries are the database.
    """
    names = [f"images/{i:03d}.jpg" for i in range(count)]
    (directory / "images").mkdir(parents=True)
    for i, name in enumerate(names):
        (directory / name).write_bytes(encoded(photograph(*size, seed=i), quality=92))
    lines = [f"{name} {i % 2} {(i + 1) % 2} {i % 3 == 0:d}\n" for i, name in enumerate(names)]
    (directory / "test.txt").write_text("".join(lines[:num_query]))
    (directory / "train.txt").write_text("".join(lines[num_query : num_query + num_train]))
    (directory / "database.txt").write_text("".join(lines[num_query:]))
    return names
