"""Files with a line or an entry a row: labels, names, splits."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.lists.texts import ONLY_CR, has_only_cr, text_of
from input_pipeline.vectors.array_files import ArrayFileError, head_of, map_array, opened
from input_pipeline.vectors.conversion import say
from input_pipeline.vectors.file_kinds import kind_of

_LINES_THAT_TELL = 10  # fewer may begin with different labels by chance
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}  # that people write; commas are read
_COLUMNS = re.compile(r"[01](?:[\s;|,]+[01])+")
_ACCEPTED = "accepted: .npy, or text in UTF-8 with a line a row"


@dataclass(frozen=True, eq=False)
class LabelLists:
    """Any number of labels a row: label `values[i]`, int or str, belongs to row `rows[i]`."""

    values: np.ndarray
    rows: np.ndarray  # int64, ascending
    count: int  # of rows

    def __len__(self) -> int:
        return self.count


def read_rows(path: Path) -> np.ndarray | list[str]:
    """The array of a `.npy`, or the lines of a text file; DataError for anything else."""
    try:
        with opened(path) as file:
            head = head_of(file)
            if head.startswith(b"\x93NUMPY"):
                return map_array(path)
            if not kind_of(head).startswith("text"):
                raise DataError(f"{path} is {_kind(head)}; {_ACCEPTED}")
            return _lines(file.read(), path)
    except ArrayFileError as error:
        raise DataError(f"{error}; {_ACCEPTED}") from None


def _kind(head: bytes) -> str:
    return "UTF-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else kind_of(head)


def _lines(data: bytes, path: Path) -> list[str]:
    """Lines without the blanks around them; empty ones at the end are no rows."""
    if has_only_cr(data):
        raise DataError(f"{path}: {ONLY_CR}")
    # Not splitlines, which also parts at rare letters that a name may have.
    lines = [line.strip() for line in text_of(data, f"{path}").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def as_words(given: np.ndarray | Sequence[str], what: str) -> Sequence[str]:
    """Names or split words as text, one a row; whole numbers are written out.

    Raises:
      DataError: anything else, naming `what`.
    """
    if not isinstance(given, np.ndarray):
        return given
    if given.ndim != 1 or given.dtype.kind not in "USiu":
        raise DataError(
            f"{what} holds {given.dtype} {list(given.shape)}; expected strings [N], a row each"
        )
    if given.dtype.kind == "S":
        return [word.decode("utf-8", "replace") for word in given.tolist()]
    return [str(word) for word in given.tolist()]


def labels_of_lines(lines: Sequence[str], what: str) -> LabelLists:
    """The labels of text lines, several of them parted by commas; DataError for names in front.

    Lines that seem to be parted by something else are told of.
    """
    parts = [[label.strip() for label in line.split(",")] for line in lines]
    firsts = {labels[0] for labels in parts if len(labels) > 1}
    if len(firsts) == len(lines) >= _LINES_THAT_TELL:
        raise DataError(
            f"{what}: every line begins with another word, such as {lines[0]!r}: are these names? A "
            "line holds the labels of a row and nothing else; names go into a file of their own, "
            "--config.data.names=FILE"
        )
    _tell_other_separators(lines, what)
    kept = [(row, label) for row, labels in enumerate(parts) for label in labels if label]
    rows = np.array([row for row, _ in kept], np.int64)
    return LabelLists(np.array([label for _, label in kept], np.str_), rows, len(lines))


def _tell_other_separators(lines: Sequence[str], what: str) -> None:
    """No error, for names may hold such letters."""
    found = {
        "labels named 0 and 1; if they are columns, save them with numpy.save, integers "
        "[N, classes]": [line for line in lines if _COLUMNS.fullmatch(line)]
    }
    for letter, words in _SEPARATORS.items():
        told = f"one label with {words}; if these part labels, write commas instead"
        found[told] = [line for line in lines if letter in line and "," not in line]
    for told, some in found.items():
        if 2 * len(some) > len(lines):
            say(f"{what}: most lines, such as {some[0]!r}, are read as {told}")
            return
