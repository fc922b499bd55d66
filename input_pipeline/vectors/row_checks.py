"""One pass over all vectors: can each be used, and which are they."""

import hashlib
from collections.abc import Sequence

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.messages import shortened
from input_pipeline.progress import Progress

_CHUNK_BYTES = 2**22
# Without its sign bit a number is not finite from this pattern on, where it is infinite; and 0 is 0.
_PATTERNS = {2: (np.uint16, 0x7FFF, 0x7C00), 4: (np.uint32, 0x7FFF_FFFF, 0x7F80_0000)}
_SHOWN = 3
_LOOKED_AT = 1000  # vectors, evenly spaced, that are compared with the first


def rows_at_once(array: np.ndarray) -> int:
    """How many rows make a chunk of some megabytes."""
    return max(1, _CHUNK_BYTES // max(1, array.shape[1] * array.itemsize))


def check_rows(array: np.ndarray, names: Sequence[str], what: str) -> str:
    """The SHA-256 of float16 or float32 [N, D], which is read once, in chunks.

    Raises:
      DataError: rows with NaN or infinite numbers, or of zeros only; how many, and the first.
    """
    unsigned, no_sign, infinite = _PATTERNS[array.itemsize]
    digest, step = hashlib.sha256(), rows_at_once(array)
    bad: dict[str, list[np.ndarray]] = {"with NaN": [], "with infinite numbers": [], "of zeros": []}
    with Progress("checking the vectors", len(array), "vectors") as told:
        for first in range(0, len(array), step):
            chunk = array[first : first + step]
            digest.update(chunk.view(np.uint8).data)
            largest = (chunk.view(unsigned) & unsigned(no_sign)).max(axis=1)
            found = (largest > infinite, largest == infinite, largest == 0)
            for rows, which in zip(bad.values(), found, strict=True):
                rows.append(first + np.flatnonzero(which))
            told.update(len(chunk))
    _refuse({kind: np.concatenate(rows) for kind, rows in bad.items()}, len(array), names, what)
    return digest.hexdigest()


def why_useless(array: np.ndarray, labels: np.ndarray) -> list[str]:
    """Why nothing can be learned from vectors [N, D] of which labels [n, classes] are trained on."""
    reasons = []
    classes = int(labels.any(axis=0).sum())
    if classes < 2:
        words = "1 class" if classes else "no class"
        reasons.append(f"the training vectors have {words}, and two are needed to tell apart")
    some = array[np.linspace(0, len(array) - 1, min(len(array), _LOOKED_AT), dtype=np.int64)]
    if len(some) > 1 and (some == some[0]).all():
        reasons.append("the vectors are all the same, and nothing can tell them apart")
    return reasons


def _refuse(bad: dict[str, np.ndarray], n: int, names: Sequence[str], what: str) -> None:
    total = sum(map(len, bad.values()))
    if not total:
        return
    kinds = [
        f"{len(rows):,} {kind} ({shortened([_row(row, names) for row in rows.tolist()], _SHOWN)})"
        for kind, rows in bad.items()
        if len(rows)
    ]
    raise DataError(
        f"{what}: {total:,} of {n:,} vectors cannot be used: {'; '.join(kinds)}. Compute them again "
        "(in float32 where float16 overflowed), or leave these rows out"
    )


def _row(row: int, names: Sequence[str]) -> str:
    return f"row {row}, {names[row]!r}" if len(names) else f"row {row}"
