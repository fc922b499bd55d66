"""Decodes every image of a data set once, in threads, and notes what it met."""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from input_pipeline.errors import UnreadableImage
from input_pipeline.images.decode import (
    DecodeOptions,
    decode_image,
    fits_in_memory,
    read_header,
)
from input_pipeline.images.encoded import Reader
from input_pipeline.threads import map_in_threads

# Longer side to shorter, and pixels of the shorter, beyond which a crop shows next to nothing.
_LONGEST_SHAPE, _SHORTEST_SIDE = 20, 8
_DEEP_GREY = {"I": "32-bit grey", "F": "grey in floating point"}  # by Pillow's mode
# A share of black and white pixels above which little of the picture can be left.
_LOST = 0.9


@dataclass(frozen=True)
class ImageFacts:
    """What is known of one image file; `reason` is why it cannot be used, None for a good one.

    `digest` is the SHA-256 of its bytes, `grey` what is odd about an image of deep grey levels.
    What is not known is 0 or empty.
    """

    reason: str | None = None
    width: int = 0
    height: int = 0
    num_bytes: int = 0
    digest: bytes = b""
    grey: str = ""


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
    data, reason, width, height, grey = b"", None, 0, 0, ""
    try:
        data = reader.read(row)
        pixels = decode_image(data, options)
        height, width, _ = pixels.shape
        mode = read_header(data, options).mode
        with fits_in_memory(width, height):
            grey = _lost_grey(mode, pixels)
    except UnreadableImage as error:
        reason = str(error)
    digest = hashlib.sha256(data).digest() if data else b""
    return ImageFacts(reason, width, height, len(data), digest, grey)


def _lost_grey(mode: str, pixels: np.ndarray) -> str:
    """What became of an image of more than 8 bits a pixel, if that is nearly all black and white.

    Pillow cuts its levels off at 255 instead of scaling them, and published codes use Pillow.
    """
    kind = "16-bit grey" if mode.startswith("I;16") else _DEEP_GREY.get(mode)
    if kind is None:
        return ""
    levels = pixels[..., 0]
    black, white = (levels <= 1).mean(), (levels >= 254).mean()
    if black + white < _LOST:
        return ""
    return f"{kind}, decodes to {white:.0%} white and {black:.0%} black"


def odd_images(names: Sequence[str], facts: Sequence[ImageFacts]) -> dict[str, list[str]]:
    """Good images worth a look: what is odd and what to do -> "name (what it is)" of each.

    These are images of deep grey levels that are lost in decoding, and extreme shapes.
    """
    grey, shapes = [], []
    for name, fact in zip(names, facts, strict=True):
        if fact.grey:
            grey.append(f"{name!r} ({fact.grey})")
        short, long = sorted((fact.width, fact.height))
        if fact.reason is None and (short < _SHORTEST_SIDE or long > _LONGEST_SHAPE * short):
            shapes.append(f"{name!r} ({fact.width} x {fact.height})")
    odd = {
        "of more than 8 bits are nearly all black and white after decoding; convert to 8 bits": grey,
        f"under {_SHORTEST_SIDE} pixels high or wide, or over {_LONGEST_SHAPE} times as long as "
        "short; a crop of such an image shows little of it": shapes,
    }
    return {what: images for what, images in odd.items() if images}


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


def image_table(names: Sequence[str], facts: Sequence[ImageFacts], seconds: float) -> str:
    """How many images were checked, their bytes, the smallest and the largest, and the time."""
    good = [i for i, fact in enumerate(facts) if fact.reason is None]
    size = sum(fact.num_bytes for fact in facts)
    speed = len(facts) / seconds if seconds > 0 else 0
    counts = f"images: {len(facts):,} checked, {len(facts) - len(good):,} unreadable"
    lines = [f"{counts}; {size:,} bytes; {seconds:.1f} s, {speed:,.0f} images/s"]
    if good:
        by_area = sorted(good, key=lambda i: facts[i].width * facts[i].height)
        ends = (("smallest", by_area[0]), ("largest", by_area[-1]))
        told = (f"{what} {facts[i].width} x {facts[i].height} ({names[i]!r})" for what, i in ends)
        lines.append(", ".join(told))
    return "\n".join(lines)
