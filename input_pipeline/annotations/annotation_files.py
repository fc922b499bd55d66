"""Finding and reading the small text files that annotations are published as."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from input_pipeline.errors import DataError


@dataclass(frozen=True, eq=False)
class RawAnnotations:
    """All images of a data set with their labels, before any split."""

    paths: list[str]  # with `/`, relative to the folder of the images, in the publishers' order
    labels: np.ndarray  # uint8 [N, C] of 0 and 1
    class_names: tuple[str, ...]
    notes: tuple[str, ...]  # what a user should know, such as a total that is not the published one


def existing_folder(directory: str | os.PathLike[str]) -> Path:
    """The absolute path of a folder; DataError if it is none."""
    root = Path(directory).expanduser().absolute()
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the one the archives were unpacked in")
    return root


def first_existing(
    roots: Sequence[Path], names: Sequence[str], accept: Callable[[Path], object], what: str
) -> Path:
    """The first of `names` in the first of `roots` that `accept` takes; DataError if none."""
    found = next((r / name for r in roots for name in names if accept(r / name)), None)
    if found is None:
        raise DataError(
            f"did not find {what}; tried {', '.join(names)} in {', '.join(map(str, roots))}. Give "
            "the folder that the publishers' archives were unpacked in"
        )
    return found


def read_bytes(file: Path) -> bytes:
    """The bytes of a file; DataError if it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file} ({error}); unpack its archive again") from error


def read_lines(file: Path) -> list[str]:
    """The lines of a UTF-8 file with any line ends, without blank lines at the end."""
    try:
        text = read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not a text file in UTF-8 ({error})") from error
    return re.split(r"\r\n|\n|\r", text.rstrip()) if text.strip() else []


def first_repeat(names: Sequence[str]) -> int | None:
    """Where the first name stands that has been there before; None if all differ."""
    if len(set(names)) == len(names):
        return None
    seen: set[str] = set()
    return next(i for i, name in enumerate(names) if name in seen or seen.add(name))


def total_note(which: str, found: int, published: int) -> tuple[str, ...]:
    """Nothing, or a note that a total is not the published one."""
    if found == published:
        return ()
    return (f"{found:,} images are {which}; the published set has {published:,}",)
