"""Images as files or records: their names, and what reads their bytes."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Protocol

from input_pipeline.errors import DataError, UnreadableFile, UnreadableImage


class Reader(Protocol):
    """Gives the bytes of encoded images by number, to many threads at once."""

    def read(self, row: int) -> bytes:
        """The encoded image; `UnreadableImage` if it is missing or damaged."""
        ...


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """The images of a data set, not decoded yet, and what each is called in messages and lists."""

    names: Sequence[str]
    reader: Reader
    resized: int | None = None  # the shorter side that larger ones were packed with
    turned: bool = False  # whether packing turned the resized ones as EXIF says

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class FileReader:
    """Reads `directory/name`; names are relative, with `/`. DataError if one leaves it."""

    directory: str
    names: Sequence[str]

    def __post_init__(self):
        for name in self.names:
            if name.startswith("/") or ".." in name and ".." in PurePosixPath(name).parts:
                raise DataError(f"{name}: image paths must stay inside {self.directory}")

    def read(self, row: int) -> bytes:
        """The file's bytes; `UnreadableImage` if there is none."""
        return self._read(row, -1)

    def read_head(self, row: int, num_bytes: int) -> bytes:
        """The first `num_bytes` of the file, or all of a shorter one; errors as `read`."""
        return self._read(row, num_bytes)

    def _read(self, row: int, num_bytes: int) -> bytes:
        return read_image_file(f"{self.directory}/{self.names[row]}", num_bytes)


def read_image_file(path: str, num_bytes: int = -1) -> bytes:
    """The first `num_bytes` of a file, also of a bucket's; -1 is all.

    Raises:
      UnreadableFile: it is missing or cannot be read.
      UnreadableImage: a pipe or a device, which its reader might wait for without end; or more than
        memory holds.
    """
    try:
        with _open(path) as file:
            return file.read(num_bytes)
    except FileNotFoundError as error:
        raise UnreadableFile("there is no such file") from error
    except OSError as error:
        raise UnreadableFile(f"cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise UnreadableImage("the file is too large for this machine's memory") from error


def _open(path: str) -> IO[bytes]:
    if "://" in path:
        from etils import epath

        return epath.Path(path).open("rb")
    file = open(path, "rb", opener=_without_waiting)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UnreadableImage("no regular file")
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
