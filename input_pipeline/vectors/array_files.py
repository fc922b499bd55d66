"""Reads NumPy's files without unpickling, and says what a file is that is none."""

import io
import math
import os
import struct
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from input_pipeline.messages import shortened
from input_pipeline.vectors.file_kinds import kind_of

_ZIP, _NPY = b"PK", b"\x93NUMPY"
# A damaged header ends in errors of Python's parser.
_DAMAGE = (
    OSError, ValueError, EOFError, KeyError, TypeError, OverflowError, RuntimeError,
    SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class ArrayFileError(ValueError):
    """A file holds no arrays that can be used; the message names it."""


def read_array(path: Path) -> np.ndarray:
    """Reads a `.npy`.

    Raises:
        ArrayFileError: it cannot be read, is something else, or holds Python objects.
    """
    with opened(path) as file:
        _check_is_array(path, head_of(file))
        return _array_in(file, f"{path}")


def read_arrays(
    path: Path, names: Sequence[str], *, may_lack_all: bool = False
) -> dict[str, np.ndarray]:
    """Reads those of the named arrays that a `.npz` has, and nothing else of it.

    Raises:
        ArrayFileError: it cannot be read, is something else or has none of them; or one of them
            holds Python objects.
    """
    with opened(path) as file, _archive(path, file) as archive:
        there = archive.namelist()
        found = [name for name in names if f"{name}.npy" in there]
        if not found and not may_lack_all:
            has = shortened(there) or "nothing"
            raise ArrayFileError(f"{path} is a zip archive without such arrays; it has {has}")
        return {name: _member(archive, name, path) for name in found}


def map_array(path: Path) -> np.ndarray:
    """The array of a `.npy`, read from the file only where it is used; errors as `read_array`."""
    with opened(path) as file:
        _check_is_array(path, head_of(file))
        return _map(file, path, f"{path}")


def map_member(path: Path, name: str) -> tuple[np.ndarray, bool]:
    """(one array of a `.npz`, whether it is mapped); a compressed one is read into memory.

    Raises:
        ArrayFileError: as `read_arrays`.
    """
    with opened(path) as file, _archive(path, file) as archive:
        there = {member.filename: member for member in archive.infolist()}
        member = there.get(f"{name}.npy")
        if member is None:
            has = shortened(list(there)) or "nothing"
            raise ArrayFileError(
                f"{path} has no array {name}; it has {has}: write it with numpy.savez(FILE, {name}=...)"
            )
        if member.compress_type != zipfile.ZIP_STORED:
            return _member(archive, name, path), False
        try:
            file.seek(_start_of(file, member))
        except _DAMAGE:
            raise ArrayFileError(_damaged(path)) from None
        return _map(file, path, f"{path}: {name}"), True


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    try:
        with archive.open(f"{name}.npy") as file:
            return _array_in(cast(zipfile.ZipExtFile, file), f"{path}: {name}")
    except ArrayFileError:
        raise
    except _DAMAGE:
        raise ArrayFileError(_damaged(path)) from None


def _array_in(file: io.BufferedIOBase, what: str) -> np.ndarray:
    start = file.tell()
    _header_of(file, what)
    file.seek(start)
    try:
        array = np.lib.format.read_array(file, allow_pickle=False)
    except MemoryError:
        raise ArrayFileError(
            f"{what} does not fit into this machine's memory; save it with numpy.save"
        ) from None
    except _DAMAGE:
        raise ArrayFileError(_damaged(what)) from None
    return _with_letters(array, what)


def _header_of(file: io.BufferedIOBase, what: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether columns come first, dtype); the file is then at the first number."""
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    try:
        shape, columns_first, dtype = read[np.lib.format.read_magic(file)[0]](file)
    except _DAMAGE:
        raise ArrayFileError(_damaged(what)) from None
    if dtype.hasobject:
        raise ArrayFileError(
            f"{what} holds Python objects, which are not read; save it as numbers or strings, "
            "such as numpy.asarray(values, dtype=str)"
        )
    return shape, columns_first, dtype


def _map(file: io.BufferedReader, path: Path, what: str) -> np.ndarray:
    """The array whose header the file stands at, as it lies in the file."""
    shape, columns_first, dtype = _header_of(file, what)
    start, size = file.tell(), math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or start + size > os.fstat(file.fileno()).st_size:
        raise ArrayFileError(_damaged(what))
    if not size:
        return np.zeros(shape, dtype)
    order = "F" if columns_first else "C"
    return _with_letters(np.asarray(np.memmap(path, dtype, "r", start, shape, order)), what)


def _with_letters(array: np.ndarray, what: str) -> np.ndarray:
    """The array, unless its texts have numbers that are no letters: Python would fail over them."""
    if array.dtype.kind == "U" and array.nbytes:
        numbers = array.ravel("K").view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        if numbers.max() > sys.maxunicode:
            raise ArrayFileError(_damaged(what))
    return array


def _start_of(file: io.BufferedReader, member: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin: after its local header, whose length varies."""
    file.seek(member.header_offset)
    header = file.read(30)
    if len(header) < 30 or not header.startswith(_ZIP):
        raise zipfile.BadZipFile
    return member.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))


def _check_is_array(path: Path, head: bytes) -> None:
    if head.startswith(_ZIP):
        raise ArrayFileError(f"{path} is an archive, as .npz is, and no .npy file")
    if not head.startswith(_NPY):
        raise ArrayFileError(f"{path} is no .npy file: it is {kind_of(head)}")


def _archive(path: Path, file: io.BufferedReader) -> zipfile.ZipFile:
    head = head_of(file)
    if head.startswith(_NPY):
        raise ArrayFileError(f"{path} is a single array, as .npy is, and no .npz file")
    if not head.startswith(_ZIP):
        raise ArrayFileError(f"{path} is no .npz file: it is {kind_of(head)}")
    try:
        return zipfile.ZipFile(file)
    except _DAMAGE:
        raise ArrayFileError(_damaged(path)) from None


def opened(path: Path) -> io.BufferedReader:
    """The open file; ArrayFileError if it cannot be read."""
    try:
        return open(path, "rb")
    except OSError as error:
        raise ArrayFileError(f"{path} cannot be read ({error.strerror})") from None


def head_of(file: io.BufferedIOBase) -> bytes:
    """Returns the first bytes; the file is read from its beginning afterwards."""
    start = file.tell()
    head = file.read(256)
    file.seek(start)
    return head


def _damaged(what: Any) -> str:
    return f"{what} cannot be read: it is damaged or not whole; copy or make it again"
