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

from input_pipeline.errors import DataError

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
            found = file.read(len(header))
            # One byte more than there should be, up to the end, where gzip compares its checksum.
            body = file.read(count + 1) if found == header else b""
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read: it is truncated or damaged ({error}). Delete it and get it again"
        ) from error
    wanted = f"{_KINDS.get(magic, 'bytes')} {list(shape)}"
    if found != header:
        raise DataError(f"{path} {_what(found)}; expected {wanted}")
    if len(body) != count:
        wrong = "is truncated" if len(body) < count else "goes on after its end"
        raise DataError(f"{path} {wrong}: its header says {wanted}. Delete it and get it again")
    digest = hashlib.md5(header + body, usedforsecurity=False).hexdigest()
    return np.frombuffer(body, np.uint8).reshape(shape), digest


def _what(header: bytes) -> str:
    """What a file is that begins in another way."""
    kind, axes = _KINDS.get(header[:4]), header[4:]
    if kind is None:
        return f"is no IDX file of bytes, gzipped or not (it begins with {header!r})"
    number = header[3]
    if len(axes) < 4 * number:
        return "is truncated"
    lengths = np.frombuffer(axes[: 4 * number], ">u4").tolist()
    return f"holds {kind} {lengths} (do two files have each other's names?)"
