"""Opens files of vectors, `.npy`, `.npz` or Parquet, without reading the vectors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.vectors.array_files import (
    ArrayFileError,
    head_of,
    map_array,
    map_member,
    opened,
    read_arrays,
)
from input_pipeline.vectors.conversion import converted, narrowed, say
from input_pipeline.vectors.file_kinds import kind_of
from input_pipeline.vectors.parquet_files import ParquetVectors
from input_pipeline.vectors.row_checks import rows_at_once
from input_pipeline.vectors.row_lists import LabelLists, as_words

FILES = (
    "accepted: .npy; .npz with the arrays embeddings and labels (and names, split); Parquet with the "
    "columns embedding and label (and name, split). Vectors are float16 or float32 [N, D]"
)


@dataclass(frozen=True, eq=False)
class VectorFile:
    """Vectors float16 or float32 [N, D], mapped where that can be, and what lies beside them."""

    array: np.ndarray
    labels: np.ndarray | LabelLists | None = None
    names: Sequence[str] | None = None
    split: Sequence[str] | None = None


def open_vectors(path: Path, cache: Path) -> VectorFile:
    """What a file holds; what cannot be mapped as it is goes into `cache` once.

    Raises:
      DataError: the file is missing, damaged, unsafe, something else, or holds no vectors.
    """
    try:
        with opened(path) as file:
            head = head_of(file)
        if head.startswith(b"\x93NUMPY"):
            return VectorFile(_usable(map_array(path), path, f"{path}", True, cache))
        if head.startswith(b"PK"):
            return _open_archive(path, cache)
    except ArrayFileError as error:
        raise DataError(str(error)) from None
    if head.startswith(b"PAR1"):
        return _open_parquet(path, cache)
    kind = kind_of(head)
    is_text = kind.startswith("text")
    advice = ", such as CSV: read it, and save it with numpy.save" if is_text else ""
    raise DataError(f"{path} holds no vectors: it is {kind}{advice}. {FILES}")


def _open_archive(path: Path, cache: Path) -> VectorFile:
    array, mapped = map_member(path, "embeddings")
    if not mapped:
        say(
            f"{path} is compressed and is read into memory ({array.nbytes / 1e6:,.1f} MB); "
            "numpy.savez writes what can be mapped"
        )
    usable = _usable(array, path, f"{path}: embeddings", mapped, cache)
    there = read_arrays(path, ("labels", "names", "split"), may_lack_all=True)
    words = {
        name: as_words(there[name], f"{path}: {name}")
        for name in ("names", "split")
        if name in there
    }
    return VectorFile(usable, there.get("labels"), **words)


def _open_parquet(path: Path, cache: Path) -> VectorFile:
    file = ParquetVectors(path)
    return VectorFile(file.vectors(cache), file.labels(), file.words("names"), file.words("split"))


def _usable(array: np.ndarray, path: Path, what: str, mapped: bool, cache: Path) -> np.ndarray:
    """The array, or what it becomes in native float16 or float32 with rows that lie together."""
    _check_form(array, what)
    dtype = np.dtype(np.float16 if array.itemsize == 2 else np.float32)
    if array.dtype == dtype and array.flags.c_contiguous:
        return array
    reasons = {
        "float64": array.itemsize == 8,
        "big-endian" if array.dtype.byteorder == ">" else "little-endian": not array.dtype.isnative,
        "columns first (Fortran order)": not array.flags.c_contiguous,
    }
    told = f"{', '.join(reason for reason, holds in reasons.items() if holds)} cannot be mapped"
    if not mapped:
        return narrowed(array, dtype, what)
    return converted(path, told, array.shape, dtype, lambda: _chunks(array), cache)


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    step = rows_at_once(array)
    for first in range(0, len(array), step):
        yield array[first : first + step]


def _check_form(array: np.ndarray, what: str) -> None:
    form = f"{what} holds {array.dtype} {list(array.shape)}"
    if array.dtype.kind in "iub":
        raise DataError(
            f"{form}: whole numbers. Undo the quantisation, and save float16 or float32. {FILES}"
        )
    if array.dtype.kind != "f" or array.itemsize not in (2, 4, 8):
        raise DataError(f"{form}; save it as float32 with numpy.save. {FILES}")
    if array.ndim != 2:
        raise DataError(f"{form}; reshape it to one row an image, [N, D]. {FILES}")
    if not array.size:
        raise DataError(f"{form}, which is empty. {FILES}")
