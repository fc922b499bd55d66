"""List files in the format of HashNet and DeepHash: a line is a path and a 0/1 label vector."""

import gzip
import os
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from input_pipeline.atomic_file import write_atomically
from input_pipeline.errors import DataError
from input_pipeline.lists.list_lines import (
    count_labels,
    image_path,
    label_that_is_no_label,
    parse_line,
)
from input_pipeline.lists.texts import ONLY_CR, has_only_cr, text_of
from input_pipeline.messages import shortened

FORMAT = "a line is a relative path and its labels, for example 'images/1.jpg 0 1 0'"
_BOM = b"\xef\xbb\xbf"
_LINES_TO_FIND_WIDTH = 1000


@dataclass(frozen=True, eq=False)
class LabelList:
    """One list file: n relative paths, each once, and labels uint8 [n, classes], 0 or 1.

    `lines` are int64 [n], counted from 1; None where there is no file yet.
    """

    paths: list[str]
    labels: np.ndarray
    file: str
    lines: np.ndarray | None = None

    def place(self, row: int) -> str:
        """`file:line` of one image."""
        return f"{self.file}:{row + 1 if self.lines is None else self.lines[row]}"


def read_list(path: str | os.PathLike[str], num_classes: int | None = None) -> LabelList:
    """Reads a list file, also in `.gz` or on a bucket; DataError for problems of `parse_list`."""
    file = os.fspath(path)
    found, problems = parse_list(read_list_bytes(path), file, num_classes)
    if problems:
        raise DataError(
            f"{file} has {len(problems):,} problem{'s' if len(problems) > 1 else ''} "
            f"({FORMAT}; `python -m input_pipeline.check` lists them all):\n  "
            + shortened(problems, separator="\n  ")
        )
    return found


def read_list_bytes(path: str | os.PathLike[str]) -> bytes:
    """The text of a list file, unpacked if its name ends in `.gz`; DataError if there is none."""
    from etils import epath  # imported late: it takes a tenth of a second

    file = os.fspath(path)
    try:
        data = epath.Path(path).read_bytes()
        return gzip.decompress(data) if file.endswith(".gz") else data
    except FileNotFoundError as error:
        packed = f"; {file}.gz is there: give that name" if os.path.exists(f"{file}.gz") else ""
        raise DataError(f"{file}: there is no such list file{packed}; {FORMAT}") from error
    except ImportError as error:  # the package that a bucket needs
        raise DataError(f"{file}: {error} (for example `pip install gcsfs` for gs://)") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: this list file cannot be read ({error}); {FORMAT}") from error


def read_class_names(directory: str | os.PathLike[str]) -> tuple[str, ...] | None:
    """The lines of classes.txt in a folder, also on a bucket; None where there is none.

    DataError if it is not UTF-8.
    """
    from etils import epath

    path = epath.Path(directory) / "classes.txt"
    if not path.is_file():
        return None
    lines = text_of(path.read_bytes(), f"{path}").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def parse_list(
    data: bytes, file: str, num_classes: int | None = None
) -> tuple[LabelList, list[str]]:
    """(list, problems): the images that could be made out of a list file's text (UTF-8).

    A problem is a `file:line: ...`, also for an image that is listed a second time, is absolute or
    leaves the image folder. Blanks and carriage returns that end lines, empty lines at the end and
    a byte order mark are ignored. `num_classes` None: as most of the first 1,000 lines have.
    """
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes must be 1 or more, got {num_classes}")
    lines = [line.rstrip() for line in data.removeprefix(_BOM).split(b"\n")]
    while lines and not lines[-1]:
        lines.pop()
    width, explanation = _find_width(lines, num_classes)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        width, explanation = 0, "the file is UTF-16; save it as UTF-8"
    elif has_only_cr(data):
        width, explanation = 0, ONLY_CR
    problems = [f"{file}:1: {explanation}"] if explanation else []
    places: dict[str, int] = {}
    digits = []
    for number, line in enumerate(lines if width else [], 1):
        try:
            raw, labels = parse_line(line, width)
            path = _path_of(raw)
            if path in places:
                raise ValueError(f"{path!r} is listed already on line {places[path]}")
        except ValueError as error:
            problems.append(f"{file}:{number}: {error}")
        else:
            places[path] = number
            digits.append(labels)
    labels = np.frombuffer(b"".join(digits), np.uint8) - np.uint8(ord("0"))
    labels = labels.reshape(len(places), width or num_classes or 0)
    if num_classes is None and labels.shape[1] == 1 and not labels.all():
        problems.insert(
            0,
            f"{file}:1: one label a line, which leaves the images of the other class without any: "
            "write a 0 or 1 for every class, such as 'a.jpg 1 0' and 'b.jpg 0 1'",
        )
    numbers = np.fromiter(places.values(), np.int64, len(places))
    return LabelList(list(places), labels, file, numbers), problems


def _find_width(lines: list[bytes], num_classes: int | None) -> tuple[int, str]:
    """Labels a line (0: none), and what is wrong with the file as a whole, if anything."""
    if not lines:
        return 0, "the file is empty"
    counts = Counter(count_labels(line.split()) for line in lines[:_LINES_TO_FIND_WIDTH])
    del counts[0]
    if not counts:
        commas = "; these lines have commas" if b"," in lines[0] else ""
        return 0, f"no labels here nor on the lines after it{commas}; {FORMAT}"
    width = counts.most_common(1)[0][0]
    if num_classes is None or num_classes in counts:
        return num_classes or width, ""
    return width, f"{width} labels a line, but {num_classes} classes are expected"


def _path_of(raw: bytes) -> str:
    path = image_path(raw.decode(errors="replace"))
    if " " in path and (wrong := label_that_is_no_label(raw)):
        raise ValueError(f"the label {wrong!r} is not 0 or 1")
    if "\ufffd" in path:
        raise ValueError(f"the path {path!r} is text that is not UTF-8; save it as UTF-8")
    return path


def write_list(path: str | os.PathLike[str], paths: Sequence[str], labels: np.ndarray) -> None:
    """Writes n relative paths, each once, and labels [n, classes] of 0 or 1, whole or not at all.

    ValueError for a path that `read_list` would not read back as it is; nothing is written then.
    """
    write_atomically(path, format_list(paths, labels, os.fspath(path)))


def format_list(paths: Sequence[str], labels: np.ndarray, file: str) -> bytes:
    """What `write_list` writes; `file` is the name for messages. Raises the same `ValueError`."""
    labels = np.asarray(labels)
    if labels.ndim != 2 or len(labels) != len(paths) or not labels.size:
        raise ValueError(f"{len(paths)} paths with labels of shape {labels.shape}")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    pairs = ((labels.astype(np.uint16) << 8) | 0x3020).astype("<u2")
    try:
        lines = [name.encode() + row.tobytes() for name, row in zip(paths, pairs, strict=True)]
    except UnicodeEncodeError as error:
        raise ValueError(f"the path {error.object!r} is not UTF-8; rename that file") from error
    data = b"\n".join([*lines, b""])
    found, problems = parse_list(data, file, labels.shape[1])
    if problems or found.paths != list(paths):
        reason = problems[0] if problems else "a path is not in the form that lists have"
        raise ValueError(f"this list cannot be written: {reason}")
    return data
