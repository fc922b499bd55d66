"""Decodes every image of a data set once, in threads, and notes what it met."""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from input_pipeline.errors import UnreadableImage
from input_pipeline.images.decode import DecodeOptions, decode_image
from input_pipeline.images.encoded import Reader
from input_pipeline.threads import map_in_threads


@dataclass(frozen=True)
class ImageFacts:
    """What is known of one image file; `reason` is why it cannot be used, None for a good one.

    `digest` is the SHA-256 of its bytes. What is not known is 0 or empty.
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
    """Reads and decodes images 0..count-1 by threads that hold one decoded image each.

    `progress` is called with 1 for each image that is done, in order.
    """
    facts = []
    check = functools.partial(_check_image, reader, options)
    with contextlib.closing(map_in_threads(check, range(count), num_workers)) as found:
        for one in found:
            facts.append(one)
            progress(1)
    return facts


def _check_image(reader: Reader, options: DecodeOptions, row: int) -> ImageFacts:
    data, reason, width, height = b"", None, 0, 0
    try:
        data = reader.read(row)
        height, width, _ = decode_image(data, options).shape
    except UnreadableImage as error:
        reason = str(error)
    digest = hashlib.sha256(data).digest() if data else b""
    return ImageFacts(reason, width, height, len(data), digest)


def same_files(
    facts: Sequence[ImageFacts], first: np.ndarray, second: np.ndarray
) -> list[tuple[int, int]]:
    """Pairs (a row of `first`, another row of `second`) whose files are the same byte for byte.

    A file that several rows of `second` have is paired with the first of them.
    """
    owners: dict[bytes, int] = {}
    for row in second.tolist():
        if facts[row].digest:
            owners.setdefault(facts[row].digest, row)
    digests = ((row, facts[row].digest) for row in first.tolist())
    return [(row, owners[digest]) for row, digest in digests if owners.get(digest, row) != row]
