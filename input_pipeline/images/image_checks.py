"""Decodes every image of a data set once, in threads, and notes what it met."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from input_pipeline.errors import UnreadableImage
from input_pipeline.images.decode import DecodeOptions, decode_image
from input_pipeline.images.encoded import Reader

_AT_ONCE = 512  # images handed to the threads together: few enough to be left quickly


@dataclass(frozen=True)
class ImageFacts:
    """What is known of one image file.

    Attributes:
      reason: why it cannot be used; None for a good one.
      width, height: in pixels; 0 for one that cannot be used.
      num_bytes: the file's size; 0 for one that is missing.
      digest: SHA-256 of the file's bytes; empty for one that is missing.
    """

    reason: str | None = None
    width: int = 0
    height: int = 0
    num_bytes: int = 0
    digest: bytes = b""


def check_images(
    reader: Reader,
    count: int,
    options: DecodeOptions,
    *,
    num_workers: int,
    progress: Callable[[int], object] = lambda _: None,
) -> list[ImageFacts]:
    """Reads and decodes images 0..count-1.

    Args:
      reader: gives the files' bytes.
      count: how many there are.
      options: what counts as readable.
      num_workers: threads, 1 or more; each holds one decoded image.
      progress: called with 1 for each image that is done, in order.

    Raises:
      ValueError: for `num_workers` below 1.
    """
    if num_workers < 1:
        raise ValueError(f"num_workers must be 1 or more, got {num_workers}")
    facts = []
    pool = ThreadPoolExecutor(num_workers, "check")
    try:
        for first in range(0, count, _AT_ONCE):
            rows = range(first, min(first + _AT_ONCE, count))
            for found in pool.map(lambda row: _check_image(reader, row, options), rows):
                facts.append(found)
                progress(1)
    finally:
        pool.shutdown(cancel_futures=True)
    return facts


def _check_image(reader: Reader, row: int, options: DecodeOptions) -> ImageFacts:
    data = b""
    try:
        data = reader.read(row)
        height, width, _ = decode_image(data, options).shape
        return ImageFacts(None, width, height, len(data), hashlib.sha256(data).digest())
    except UnreadableImage as error:
        digest = hashlib.sha256(data).digest() if data else b""
        return ImageFacts(str(error), num_bytes=len(data), digest=digest)


def same_files(
    facts: Sequence[ImageFacts], first: np.ndarray, second: np.ndarray
) -> list[tuple[int, int]]:
    """Pairs (a row of `first`, another row of `second`) whose files are the same byte for byte.

    Args:
      facts: of all images.
      first, second: int [M] and int [K], rows of `facts`. A file that several rows of `second`
        have is paired with the first of them.
    """
    owners: dict[bytes, int] = {}
    for row in second.tolist():
        if facts[row].digest:
            owners.setdefault(facts[row].digest, row)
    pairs = []
    for row in first.tolist():
        other = owners.get(facts[row].digest, row)
        if other != row:
            pairs.append((row, other))
    return pairs
