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

FORMAT = "a line is a relative path and its labels, for example 'images/1.jpg 0 1 0'"
_BOM = b"\xef\xbb\xbf"
_ROWS_AT_ONCE = 8192
_LINES_TO_FIND_WIDTH = 1000
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class LabelList:
    """One list file.

    Attributes:
      paths: n relative paths, each once.
      labels: uint8 [n, classes], 0 or 1.
      file: the file's name, for messages.
      lines: int64 [n], the line of each image, counted from 1; None where there is no file yet.
    """

    paths: list[str]
    labels: np.ndarray
    file: str
    lines: np.ndarray | None = None

    def place(self, row: int) -> str:
        """`file:line` of one image."""
        return f"{self.file}:{row + 1 if self.lines is None else self.lines[row]}"


def read_list(path: str | os.PathLike[str], num_classes: int | None = None) -> LabelList:
    """Reads a list file, also one ending in `.gz` or on a bucket (`gs://...`).

    Args:
      path: the file.
      num_classes: labels a line; None takes what most lines have.

    Raises:
      DataError: if the file cannot be read, or for any line that `parse_list` objects to.
      ValueError: for `num_classes` below 1.
    """
    file = os.fspath(path)
    found, problems = parse_list(read_list_bytes(path), file, num_classes)
    if problems:
        more = [f"... and {len(problems) - _SHOWN:,} more"] if len(problems) > _SHOWN else []
        shown = "\n  ".join(problems[:_SHOWN] + more)
        raise DataError(
            f"{file} has {len(problems):,} problem{'s' if len(problems) > 1 else ''} "
            f"({FORMAT}; `python -m input_pipeline.check` lists them all):\n  {shown}"
        )
    return found


def read_list_bytes(path: str | os.PathLike[str]) -> bytes:
    """The text of a list file, unpacked if its name ends in `.gz`.

    Raises:
      DataError: naming the file, and what is expected there.
    """
    from etils import epath  # imported late: it takes a tenth of a second

    file = os.fspath(path)
    try:
        data = epath.Path(path).read_bytes()
        return gzip.decompress(data) if file.endswith(".gz") else data
    except FileNotFoundError as error:
        raise DataError(f"{file}: there is no such list file; {FORMAT}") from error
    except ImportError as error:  # the package that a bucket needs
        raise DataError(f"{file}: {error} (for example `pip install gcsfs` for gs://)") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: this list file cannot be read ({error}); {FORMAT}") from error


def parse_list(
    data: bytes, file: str, num_classes: int | None = None
) -> tuple[LabelList, list[str]]:
    """Parses a list file's text as far as possible.

    Lines may end in `\\r\\n` or blanks; empty lines at the end and a byte order mark are ignored.

    Args:
      data: the text, UTF-8.
      file: its name, for the messages.
      num_classes: labels a line; None takes what most of the first 1,000 lines have.

    Returns:
      (list, problems): the images that could be made out, and a `file:line: ...` for every one
      that could not, that is listed a second time, is absolute or leaves the image folder.

    Raises:
      ValueError: for `num_classes` below 1.
    """
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes must be 1 or more, got {num_classes}")
    data = data.removeprefix(_BOM)
    starts, ends = _line_bounds(data)
    width, explanation = _find_width(data, starts, ends, num_classes)
    if not width:
        nothing = np.zeros((0, num_classes or 0), np.uint8)
        return LabelList([], nothing, file, np.zeros(0, np.int64)), [f"{file}:1: {explanation}"]
    raw, labels, problems = _part_lines(data, starts, ends, width)
    paths, rows = _check_paths(raw, problems)
    lines = [f"{file}:1: {explanation}"] if explanation else []
    lines += [f"{file}:{row + 1}: {problems[row]}" for row in sorted(problems)]
    whole = len(rows) == len(labels)
    return LabelList(paths, labels if whole else labels[rows], file, rows + 1), lines


def _line_bounds(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Where lines start and end, without line breaks, blanks behind and empty lines at the end."""
    text = np.frombuffer(data, np.uint8)
    breaks = np.flatnonzero(text == ord("\n"))
    starts = np.concatenate([[0], breaks + 1])
    ends = np.concatenate([breaks, [len(data)]])
    if not data:
        return starts[:0], ends[:0]
    ends -= _blank_before(text, starts, ends)
    for row in np.flatnonzero(_blank_before(text, starts, ends)):
        ends[row] = starts[row] + len(data[starts[row] : ends[row]].rstrip(b" \t\r"))
    filled = int(np.max(np.flatnonzero(ends > starts), initial=-1)) + 1
    return starts[:filled], ends[:filled]


def _blank_before(text: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    return (ends > starts) & _is_blank(text[ends - 1])


def _is_blank(text: np.ndarray) -> np.ndarray:
    return (text == ord(" ")) | ((text >= ord("\t")) & (text <= ord("\r")))


def _find_width(
    data: bytes, starts: np.ndarray, ends: np.ndarray, num_classes: int | None
) -> tuple[int, str]:
    """Labels a line (0: there are none), and what is wrong with the file as a whole, if anything."""
    if not len(starts):
        return 0, "the file is empty"
    sample = slice(_LINES_TO_FIND_WIDTH)
    counts = Counter(
        count_labels(data[start:end].split())
        for start, end in zip(starts[sample].tolist(), ends[sample].tolist(), strict=True)
    )
    del counts[0]
    if not counts:
        return 0, f"no labels here nor on the lines after it; {FORMAT}"
    width = counts.most_common(1)[0][0]
    if num_classes is None or num_classes in counts:
        return num_classes or width, ""
    return width, f"{width} labels a line, but {num_classes} classes are expected"


def _part_lines(
    data: bytes, starts: np.ndarray, ends: np.ndarray, width: int
) -> tuple[list[bytes], np.ndarray, dict[int, str]]:
    """(paths, labels, {row: problem}); a row with a problem has an empty path."""
    text = np.frombuffer(data, np.uint8)
    labels, regular = _regular_labels(text, starts, ends, width)
    path_ends = np.where(regular, ends - 2 * width, starts)
    bounds = zip(starts.tolist(), path_ends.tolist(), strict=True)
    raw = [data[start:end] for start, end in bounds]
    problems = {}
    for row in np.flatnonzero(~regular).tolist():
        try:
            raw[row], labels[row] = parse_line(data[starts[row] : ends[row]], width)
        except ValueError as error:
            problems[row] = str(error)
    return raw, labels, problems


def _regular_labels(
    text: np.ndarray, starts: np.ndarray, ends: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Labels of all lines that end in exactly `width` times " 0" or " 1", and which lines do."""
    labels = np.zeros((len(starts), width), np.uint8)
    regular = np.zeros(len(starts), bool)
    long_enough = np.flatnonzero(ends - starts > 2 * width)
    if not len(long_enough):
        return labels, regular
    windows = np.lib.stride_tricks.sliding_window_view(text, 2 * width)
    for first in range(0, len(long_enough), _ROWS_AT_ONCE):
        rows = long_enough[first : first + _ROWS_AT_ONCE]
        # Pairs of bytes as one number: " 0" becomes 0 and " 1" 0x100, all else something else.
        pairs = np.ascontiguousarray(windows[ends[rows] - 2 * width]).view("<u2") ^ 0x3020
        regular[rows] = ~(pairs & 0xFEFF).any(axis=1)
        labels[rows] = pairs >> 8
    # A blank or a field of one character before the labels: there may be more labels than these.
    behind_path = np.maximum(ends - 2 * width, 1)
    regular &= (
        (behind_path > 1) & ~_is_blank(text[behind_path - 1]) & ~_is_blank(text[behind_path - 2])
    )
    return labels, regular


def _check_paths(raw: list[bytes], problems: dict[int, str]) -> tuple[list[str], np.ndarray]:
    """Paths in their common form and their rows, without those that have or get a problem."""
    seen: dict[str, int] = {}
    for row, text in enumerate(_decode(raw)):
        if row in problems:
            continue
        try:
            path = image_path(text)
            if " " in path and (wrong := label_that_is_no_label(raw[row])):
                raise ValueError(f"the label {wrong!r} is not 0 or 1")
            if "\ufffd" in path:
                raise ValueError(f"the path {path!r} is not UTF-8")
        except ValueError as error:
            problems[row] = str(error)
            continue
        first = seen.setdefault(path, row)
        if first != row:
            problems[row] = f"{path!r} is listed already on line {first + 1}"
    return list(seen), np.fromiter(seen.values(), np.int64, len(seen))


def _decode(raw: list[bytes]) -> list[str]:
    return b"\n".join(raw).decode(errors="replace").split("\n")


def write_list(path: str | os.PathLike[str], paths: Sequence[str], labels: np.ndarray) -> None:
    """Writes a list file, whole or not at all; the same bytes on every machine.

    Args:
      path: the file to make, in a folder that exists; an older one is replaced.
      paths: n relative paths, each once.
      labels: [n, classes], 0 or 1.

    Raises:
      ValueError: for lengths that differ, labels that are not 0 or 1, or a path that `read_list`
        would not read back as it is; nothing is written.
      DataError: if the file cannot be written.
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
