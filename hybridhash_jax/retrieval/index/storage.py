"""Files of an index on the disk: written beside, synced, moved; what is not listed goes."""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt64

from hybridhash_jax.retrieval.index.errors import IndexFileError, explained
from hybridhash_jax.retrieval.index.header import NAME, digest
from hybridhash_jax.retrieval.names import shown
from hybridhash_jax.runtime.lock_file import HeldError, described, held, living_holder
from input_pipeline.atomic_file import open_atomically

SEGMENTS, FILES, THUMBNAILS, LOCK = "segments", "files", "thumbnails.sqlite", "writer.lock"
LISTS, UNREADABLE = "lists.ivf", "unreadable.txt"
# Of memory, of permission, of a network disk.
_OF_THE_SYSTEM = (
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.EACCES,
    errno.EPERM,
    errno.ESTALE,
    errno.ETIMEDOUT,
)


class SegmentFiles(NamedTuple):
    """The two files of a segment in `segments/`, named by their SHA-256.

    So a name says what must be in the file, the same codes make the same file on every machine, and
    a file that a killed writer left cannot be taken for another.
    """

    codes: str
    hashes: str | None


def is_index(path: Path) -> bool:
    """Is this folder an index, whatever its state?"""
    return (path / NAME).exists() and (path / SEGMENTS).is_dir()


def index_around(path: str | os.PathLike[str]) -> Path | None:
    """The index that a path lies inside, if any."""
    return next((one for one in Path(os.path.realpath(path)).parents if is_index(one)), None)


def write_synced(path: Path, data: bytes | memoryview) -> None:
    """Writes a file beside, syncs it and moves it into place."""
    with open_atomically(path) as file:
        file.write(data)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """The names in a folder survive a power failure, where the system can promise that."""
    with contextlib.suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_segment(
    folder: Path, codes: UInt64[np.ndarray, "N words"], hashes: UInt64[np.ndarray, " N"] | None
) -> SegmentFiles:
    """Writes codes, and perceptual hashes if given, into `segments/` of the index in `folder`."""
    (folder / SEGMENTS).mkdir(exist_ok=True)  # git and object stores keep no empty folders
    names = [
        None if array is None else _write_array(folder / SEGMENTS, array, suffix)
        for array, suffix in ((codes, "codes"), (hashes, "hashes"))
    ]
    assert names[0]
    return SegmentFiles(names[0], names[1])


def _write_array(folder: Path, array: np.ndarray, suffix: str) -> str:
    data = np.ascontiguousarray(array, "<u8").tobytes()
    name = f"{digest(data)}.{suffix}"
    write_synced(folder / name, data)
    return name


def map_words(path: Path, rows: int, words: int, read: bool) -> UInt64[np.ndarray, "rows words"]:
    """A file of a segment, memory-mapped.

    Raises:
      IndexFileError: it is missing or of another size; if it is `read`, also where its name is not
        its checksum.
      OSError: it may not be read, say, and may be whole.
    """
    try:
        size = path.stat().st_size
        if size != 8 * rows * words:
            raise IndexFileError(f"{shown(path)} has {size:,} bytes, not {8 * rows * words:,}")
        found = np.memmap(path, "<u8", mode="r", shape=(rows, words)).view(np.ndarray)
        if read and digest(found.data) != path.stem:
            raise IndexFileError(f"{shown(path)} is damaged")
        return found
    except OSError as error:
        if error.errno in _OF_THE_SYSTEM:
            raise  # the file may be whole
        raise IndexFileError(f"{shown(path)}: {error.strerror}") from None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One writer at a time; a killed one's lock is taken over."""
    with contextlib.ExitStack() as stack:
        try:
            with explained(path, "write"):
                stack.enter_context(held(path / LOCK))
        except HeldError as error:
            raise IndexFileError(
                f"{described(error.holder)} is writing to the index {shown(path)}; wait for it, "
                "or stop it"
            ) from None
        yield


@contextlib.contextmanager
def building(path: Path) -> Iterator[Path]:
    """A folder beside, which becomes `path` when the block ends without an error.

    Raises:
      IndexFileError: `path` is there already, or nothing can be written.
    """
    with explained(path, "write"):
        _refuse_existing(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{_escaped(path.name)}.*.part"):
            if living_holder(left / LOCK) is None:
                shutil.rmtree(left, ignore_errors=True)
        # Not by the number of the process: in containers that share a disk all may have the same.
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            for folder in (part, part / SEGMENTS, part / FILES):
                folder.mkdir()
            with locked(part):
                yield part
            os.rename(part, path)
            sync_folder(path.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def remove_unlisted(path: Path, catalogue: str, listed: Collection[str]) -> None:
    """Removes what killed writers left: files of an index that it does not list.

    Args:
      path: the folder of the index.
      catalogue: the name of the one that counts.
      listed: names in `segments/` that count.
    """
    for file in unlisted(path, catalogue, listed):
        with contextlib.suppress(OSError):
            file.unlink()


def unlisted(path: Path, catalogue: str, listed: Collection[str]) -> list[Path]:
    """Those files; others that somebody put into the folder are not ours to name."""
    segments = list((path / SEGMENTS).iterdir()) if (path / SEGMENTS).is_dir() else []
    # Where a listed file is missing, its name may be what is damaged, and one of the others it.
    ends = (".codes", ".hashes") if {file.name for file in segments} >= set(listed) else ()
    found = [
        file for file in segments if file.name not in listed and file.suffix in (*ends, ".part")
    ]
    found += [
        file for file in path.glob("catalogue-*.sqlite*") if not file.name.startswith(catalogue)
    ]
    return found + [*path.glob(".*.part"), *(path / FILES).glob(".*.part")]


def _refuse_existing(path: Path) -> None:
    if path.is_dir() and not any(path.iterdir()):
        return  # an empty folder may be given, as `mkdir` makes it
    if path.exists():
        raise IndexFileError(
            f"{shown(path)} exists already; give a new path (to an index that another process made "
            "just now, the same `hybridhash encode` adds)"
        )
    if (above := index_around(path)) is not None:
        raise IndexFileError(f"{shown(path)} is inside the index {shown(above)}; give another path")


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
