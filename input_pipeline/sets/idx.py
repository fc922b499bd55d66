"""Reads IDX files of bytes, the format that MNIST came in (LeCun, Cortes and Burges, 1998).

Four bytes: 0, 0, the type of the numbers, how many axes. Then the lengths of the axes, four bytes
each, the highest first. Then the numbers.
"""

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np

from input_pipeline.errors import DataError, of_system

_GZIP = b"\x1f\x8b"
_BYTES = 0x08  # the type
_KINDS = {bytes((0, 0, _BYTES, 1)): "labels", bytes((0, 0, _BYTES, 3)): "images"}


def read_idx(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """(uint8 of this shape, the MD5 of the file unpacked); gzipped or not, whatever it is called.

    DataError for a file that is damaged, or of another kind or shape.
    """
    magic, count = bytes((0, 0, _BYTES, len(shape))), math.prod(shape)
    header = magic + np.asarray(shape, ">u4").tobytes()
    try:
        with path.open("rb") as file:
            zipped = file.read(len(_GZIP)) == _GZIP
        with gzip.open(path) if zipped else path.open("rb") as file:
            # A byte more than there should be: it ends there, and gzip compares its checksum.
            data = file.read(len(header) + count + 1)
    except (OSError, EOFError, zlib.error) as error:
        if of_system(error):
            raise
        raise DataError(
            f"{path} cannot be read: it is truncated or damaged ({error}). Delete it and get it again"
        ) from error
    wanted = f"{_KINDS.get(magic, 'bytes')} {list(shape)}"
    if not data.startswith(header):
        raise DataError(
            f"{path} {_what(data[:16])}; expected {wanted}. Put the right file there, or delete it "
            "and get it again"
        )
    if (missing := len(header) + count - len(data)) != 0:
        wrong = "is truncated" if missing > 0 else "goes on after its end"
        raise DataError(f"{path} {wrong}: its header says {wanted}. Delete it and get it again")
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return np.frombuffer(data, np.uint8, offset=len(header)).reshape(shape), digest


def _what(start: bytes) -> str:
    """What a file is that starts in another way."""
    if not start:
        return "is empty"
    kind = _KINDS.get(start[:4])
    if kind is None:
        return (
            f"is no IDX file of bytes, gzipped or not (it begins with {start!r}; images "
            "begin with 00 00 08 03, labels with 00 00 08 01)"
        )
    axes = start[3]
    if len(start) < 4 + 4 * axes:
        return "is truncated"
    lengths = np.frombuffer(start, ">u4", axes, offset=4).tolist()
    return f"holds {kind} {lengths} (do two files have each other's names?)"
