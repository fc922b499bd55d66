"""Images as files or records: their names, and what reads their bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from input_pipeline.errors import DataError, UnreadableImage


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
        path = f"{self.directory}/{self.names[row]}"
        try:
            if "://" in self.directory:
                from etils import epath

                return epath.Path(path).read_bytes()
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            reason = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
            raise UnreadableImage(reason) from error
