"""Reads NumPy's files without unpickling, and says what a file is that is none."""

import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from input_pipeline.file_kinds import kind_of
from input_pipeline.messages import shortened

_ZIP, _NPY = b"PK", b"\x93NUMPY"
_DAMAGE = (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)


class ArrayFileError(ValueError):
    """A file holds no arrays that can be used; the message names it."""


def read_array(path: Path) -> np.ndarray:
    """Reads a `.npy`.

    Raises:
        ArrayFileError: it cannot be read, is something else, or holds Python objects.
    """
    with _opened(path) as file:
        head = _head(file)
        if head.startswith(_ZIP):
            raise ArrayFileError(f"{path} is an archive, as .npz is, and no .npy file")
        if not head.startswith(_NPY):
            raise ArrayFileError(f"{path} is no .npy file: it is {kind_of(head)}")
        return _array(file, f"{path}")


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Reads those of the named arrays that a `.npz` has, and nothing else of it.

    Raises:
        ArrayFileError: it cannot be read, is something else or has none of them; or one of them
            holds Python objects.
    """
    with _opened(path) as file:
        head = _head(file)
        if head.startswith(_NPY):
            raise ArrayFileError(f"{path} is a single array, as .npy is, and no .npz file")
        if not head.startswith(_ZIP):
            raise ArrayFileError(f"{path} is no .npz file: it is {kind_of(head)}")
        try:
            archive = zipfile.ZipFile(file)
        except _DAMAGE:
            raise ArrayFileError(_damaged(path)) from None
        with archive:
            there = archive.namelist()
            found = [name for name in names if f"{name}.npy" in there]
            if not found:
                has = shortened(there) or "nothing"
                raise ArrayFileError(f"{path} is a zip archive without such arrays; it has {has}")
            return {name: _member(archive, name, path) for name in found}


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    try:
        with archive.open(f"{name}.npy") as file:
            return _array(cast(zipfile.ZipExtFile, file), f"{path}: {name}")
    except ArrayFileError:
        raise
    except _DAMAGE:
        raise ArrayFileError(_damaged(path)) from None


def _array(file: io.BufferedIOBase, what: str) -> np.ndarray:
    start = file.tell()
    try:
        return np.lib.format.read_array(file, allow_pickle=False)
    except _DAMAGE:
        file.seek(start)
        if b"|O'" in _head(file):  # the dtype in the header
            raise ArrayFileError(
                f"{what} holds Python objects, which are not read; save it as numbers or strings, "
                "such as numpy.asarray(values, dtype=str)"
            ) from None
        raise ArrayFileError(_damaged(what)) from None


def _opened(path: Path) -> io.BufferedReader:
    try:
        return open(path, "rb")
    except OSError as error:
        raise ArrayFileError(f"{path} cannot be read ({error.strerror})") from None


def _head(file: io.BufferedIOBase) -> bytes:
    """Returns the first bytes; the file is read from its beginning afterwards."""
    start = file.tell()
    head = file.read(256)
    file.seek(start)
    return head


def _damaged(what: Any) -> str:
    return f"{what} cannot be read: it is damaged or not whole; copy or make it again"
