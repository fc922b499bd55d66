"""Labels in any of the forms that people keep, as multi-hot columns."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.messages import shortened
from input_pipeline.vectors.row_lists import LabelLists

_MOST_CLASSES = 65_536  # as many columns of a byte a row; more are names or numbers, not classes
_ROWS_AT_ONCE = 65_536
_ACCEPTED = (
    "accepted: class ids, integers [N] from 0; 0/1 integers [N, classes]; strings [N]; in Parquet "
    "also lists of either; in a text file a line a row, several labels parted by commas"
)
_WHOLE = re.compile(r"-?\d+")
_DECIMAL = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?")


@dataclass(frozen=True, eq=False)
class RowLabels:
    """Labels uint8 [N, classes], and what the classes are called."""

    multi_hot: np.ndarray
    class_names: tuple[str, ...]

    def class_ids(self) -> np.ndarray | None:
        """The class of each row, int64 [N], where no row has several; rows without are class 0."""
        if self.multi_hot.sum(axis=1, dtype=np.int64).max(initial=0) > 1:
            return None
        return self.multi_hot.argmax(axis=1)


def make_labels(
    given: np.ndarray | LabelLists, what: str, class_names: Sequence[str] | None = None
) -> RowLabels:
    """Multi-hot labels; `class_names` are those of ids and columns, None: their numbers.

    Raises:
      DataError: labels of no accepted form, naming `what`.
    """
    if isinstance(given, LabelLists):
        return _of_lists(given, what, class_names)
    form = f"{what} holds {given.dtype} {list(given.shape)}"
    if given.dtype.kind not in "biuUS" or given.ndim not in (1, 2):
        numbers = " of floating point" if given.dtype.kind == "f" else ""
        raise DataError(f"{form}{numbers}, which are no labels; {_ACCEPTED}")
    if given.ndim == 2:
        if given.dtype.kind in "US":
            raise DataError(f"{form}; write strings [N]. {_ACCEPTED}")
        return _of_columns(given, what, class_names)
    values = given
    if given.dtype.kind in "US":
        values = np.char.strip(
            given if given.dtype.kind == "U" else np.char.decode(given, "utf-8", "replace")
        )
    elif given.dtype.kind == "b":
        values = given.astype(np.int64)
    rows = np.flatnonzero(values != "") if values.dtype.kind == "U" else np.arange(len(given))
    return _of_lists(LabelLists(values[rows], rows, len(given)), what, class_names)


def _of_columns(given: np.ndarray, what: str, class_names: Sequence[str] | None) -> RowLabels:
    if given.shape[1] < 2:
        raise DataError(
            f"{what} has {given.shape[1]} column, and two classes are needed to tell apart; write "
            f"class ids as integers [N]. {_ACCEPTED}"
        )
    if class_names and len(class_names) != given.shape[1]:
        raise DataError(
            f"{what} has {given.shape[1]} columns, but classes.txt beside it names "
            f"{len(class_names)} classes: mend it, or take it away"
        )
    multi_hot = np.empty(given.shape, np.uint8)
    for first in range(0, len(given), _ROWS_AT_ONCE):  # it may be mapped, and larger than memory
        part = given[first : first + _ROWS_AT_ONCE]
        wrong = np.argwhere((part != 0) & (part != 1))
        if len(wrong):
            row, column = wrong[0].tolist()
            raise DataError(
                f"{what} {list(given.shape)} holds {part[row, column]} in row {first + row}: columns "
                f"are 0 or 1. {_ACCEPTED}"
            )
        multi_hot[first : first + _ROWS_AT_ONCE] = part
    return RowLabels(multi_hot, tuple(class_names or map(str, range(given.shape[1]))))


def _of_lists(given: LabelLists, what: str, class_names: Sequence[str] | None) -> RowLabels:
    if not len(given.values):
        raise DataError(f"{what} has no label in any of {len(given):,} rows. {_ACCEPTED}")
    if given.values.dtype.kind in "iu":
        columns = _columns_of_lists(given)
        if columns is not None:
            return _of_columns(columns, what, class_names)
        ids, names = _numbered(given, what, class_names)
    else:
        ids, names = _named(given, what)
    multi_hot = np.zeros((len(given), len(names)), np.uint8)
    multi_hot[given.rows, ids] = 1
    if int(multi_hot.sum(axis=1, dtype=np.int64).sum()) != len(ids):
        _refuse_repeats(given, what)
    return RowLabels(multi_hot, names)


def _columns_of_lists(given: LabelLists) -> np.ndarray | None:
    """0/1 columns that were written as lists: all of one length, of nothing but 0 and 1.

    As ids all rows would have the same labels, or one of them twice.
    """
    width, rest = divmod(len(given.values), max(1, len(given)))
    regular = not rest and np.array_equal(given.rows, np.repeat(np.arange(len(given)), width))
    if not regular or width < 2 or ((given.values != 0) & (given.values != 1)).any():
        return None
    return given.values.reshape(len(given), width)


def _numbered(
    given: LabelLists, what: str, class_names: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    least, most = int(given.values.min(initial=0)), int(given.values.max(initial=0))
    if least < 0 or most >= _MOST_CLASSES:
        wrong, which = (least, np.argmin) if least < 0 else (most, np.argmax)
        raise DataError(
            f"{what} holds {wrong} in row {given.rows[which(given.values)]}: class ids are 0 to "
            f"{_MOST_CLASSES - 1:,}; a row without a label is to be left out, and other numbers may "
            f"be given as strings. {_ACCEPTED}"
        )
    if class_names and len(class_names) <= most:
        raise DataError(
            f"classes.txt beside {what} names {len(class_names)} classes, but ids go up to {most}: "
            "mend it, or take it away"
        )
    return given.values.astype(np.int64), tuple(class_names or map(str, range(most + 1)))


def _named(given: LabelLists, what: str) -> tuple[np.ndarray, tuple[str, ...]]:
    found, ids = np.unique(given.values, return_inverse=True)
    names = [str(name) for name in found]
    decimal = [name for name in names if _DECIMAL.fullmatch(name)]
    if decimal:
        raise DataError(
            f"{what} holds numbers of floating point, such as {shortened(decimal, 3)}, which are no "
            f"labels. {_ACCEPTED}"
        )
    if len(names) > _MOST_CLASSES:
        raise DataError(
            f"{what} holds {len(names):,} different labels, such as {shortened(names, 3)}; at most "
            f"{_MOST_CLASSES:,} are accepted. Are these names, for --config.data.names?"
        )
    order = np.arange(len(names))
    if _all_whole(names):
        numbers = np.array(names, np.int64)
        order = np.argsort(numbers)
        if numbers.min() < 0:
            raise DataError(
                f"{what} holds {numbers.min()}: class ids are not negative, and a row without a label "
                f"is to be left out. {_ACCEPTED}"
            )
    place = np.empty(len(names), np.int64)
    place[order] = np.arange(len(names))
    return place[ids.ravel()], tuple(names[i] for i in order.tolist())


def _all_whole(names: Sequence[str]) -> bool:
    return all(_WHOLE.fullmatch(name) and len(name) < 18 for name in names)


def _refuse_repeats(given: LabelLists, what: str) -> None:
    seen: set[tuple[int, str]] = set()
    for row, value in zip(given.rows.tolist(), given.values.tolist(), strict=True):
        if (row, value) in seen:
            columns = (
                "; are these 0/1 columns? Save them with numpy.save, integers [N, classes]"
                if str(value) in ("0", "1")
                else ""
            )
            raise DataError(f"{what} has the label {value!r} twice in row {row}{columns}")
        seen.add((row, value))
