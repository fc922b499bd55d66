"""The three lists of one data set together: their images, and where the lists contradict."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.lists.label_lists import LabelList, read_list
from input_pipeline.splits import Splits

_SHOWN = 3
_LONGEST_VECTOR = 24  # longer label vectors are told by their ones


@dataclass(frozen=True, eq=False)
class ListedImages:
    """All images of three lists, each once, in the order of train, query, database.

    Attributes:
      names: N relative paths.
      labels: uint8 [N, classes], 0 or 1.
      splits: rows of `names` and `labels`, in the order of the lists.
    """

    names: list[str]
    labels: np.ndarray
    splits: Splits


@dataclass(frozen=True)
class ListProblem:
    """Something that two lists contradict each other in.

    Attributes:
      summary: one line with the count and the first few images.
      details: one line an image; empty if it is not about single images.
    """

    summary: str
    details: tuple[str, ...] = ()


class ExpectedSizes(Protocol):
    """How many lines and classes the lists of a published protocol have; None for any number."""

    @property
    def num_train(self) -> int | None: ...
    @property
    def num_query(self) -> int | None: ...
    @property
    def num_database(self) -> int | None: ...
    @property
    def num_classes(self) -> int | None: ...


def load_lists(
    directory: str | os.PathLike[str],
    *,
    train: str = "train.txt",
    query: str = "test.txt",
    database: str = "database.txt",
    num_classes: int | None = None,
) -> tuple[LabelList, LabelList, LabelList]:
    """Reads the three lists of a folder; each is checked, but not against the others.

    Args:
      directory: a folder, also on a bucket.
      train, query, database: file names in it.
      num_classes: labels a line; None takes what each list has.

    Returns:
      (train, query, database).

    Raises:
      DataError: for a list that is missing or that `read_list` objects to.
    """
    paths = (list_path(directory, name) for name in (train, query, database))
    first, second, third = (read_list(path, num_classes) for path in paths)
    return first, second, third


def list_path(directory: str | os.PathLike[str], name: str) -> str:
    """The path of a list: `name` in `directory`, or `name` alone if it is absolute."""
    return name if "://" in name else os.path.join(os.fspath(directory), name)


def join_lists(train: LabelList, query: LabelList, database: LabelList) -> ListedImages:
    """Numbers the images of three lists, each image once however many lists it is in.

    Overlaps are kept as they are; `list_problems` tells which are mistakes.

    Raises:
      DataError: if two lists have other labels for one image, or another number of labels.
    """
    lists = (train, query, database)
    problem = next(iter([*_width_problems(lists), *_label_problems(lists)]), None)
    if problem:
        raise DataError(f"{problem.summary}; correct the lists and try again")
    numbers: dict[str, int] = {}
    rows, new_labels = [], []
    for listed in lists:
        known = len(numbers)
        found = [numbers.setdefault(path, len(numbers)) for path in listed.paths]
        rows.append(np.array(found, np.int64))
        new_labels.append(listed.labels[rows[-1] >= known])
    labels = np.concatenate([part for part in new_labels if len(part)] or new_labels[:1])
    return ListedImages(list(numbers), labels, Splits(*rows))


def list_problems(train: LabelList, query: LabelList, database: LabelList) -> list[str]:
    """One line for each way in which the lists contradict each other; see `find_list_problems`."""
    return [problem.summary for problem in find_list_problems(train, query, database)]


def find_list_problems(
    train: LabelList, query: LabelList, database: LabelList
) -> list[ListProblem]:
    """Images that are query and database or query and train, and lists that disagree on labels.

    An image that is query and database finds itself at distance 0, which raises every metric.
    Training images may be in the database. A list without images is passed over.
    """
    lists = (train, query, database)
    found = [
        _overlap_problem(query, database, "both query and database"),
        _overlap_problem(query, train, "both query and training image"),
    ]
    found = [problem for problem in found if problem]
    return [*found, *_width_problems(lists), *_label_problems(lists)]


def size_problems(
    train: LabelList, query: LabelList, database: LabelList, expected: ExpectedSizes
) -> list[str]:
    """One line for each number that is not the published one. A list without images is passed over.

    Args:
      train, query, database: the lists.
      expected: the numbers, for example an entry of `splits.LIST_PROTOCOLS`.
    """
    counts = (expected.num_train, expected.num_query, expected.num_database)
    problems = []
    for listed, count in zip((train, query, database), counts, strict=True):
        if not listed.paths:
            continue
        if count is not None and len(listed.paths) != count:
            problems.append(f"{listed.file}: {len(listed.paths):,} images, expected {count:,}")
        classes = listed.labels.shape[1]
        if expected.num_classes is not None and classes != expected.num_classes:
            problems.append(f"{listed.file}: {classes} classes, expected {expected.num_classes}")
    return problems


def common_rows(first: LabelList, second: LabelList) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the images that two lists have in common, int64 [M] each, in the first's order."""
    numbers = dict(zip(second.paths, range(len(second.paths)), strict=True))
    pairs = [(i, numbers[path]) for i, path in enumerate(first.paths) if path in numbers]
    both = np.array(pairs, np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _overlap_problem(first: LabelList, second: LabelList, what: str) -> ListProblem | None:
    places = [
        f"{first.paths[i]!r} ({first.place(i)} and {second.place(j)})"
        for i, j in zip(*common_rows(first, second), strict=True)
    ]
    if not places:
        return None
    are = "image is" if len(places) == 1 else "images are"
    summary = f"{first.file} and {second.file}: {len(places):,} {are} {what}: {_few(places)}"
    return ListProblem(summary, tuple(f"{place} is {what}" for place in places))


def _width_problems(lists: Iterable[LabelList]) -> list[ListProblem]:
    widths = [(listed.file, listed.labels.shape[1]) for listed in lists if listed.paths]
    if len({width for _, width in widths}) < 2:
        return []
    each = ", ".join(f"{file} has {width}" for file, width in widths)
    return [ListProblem(f"the lists differ in the number of labels a line: {each}")]


def _label_problems(lists: Iterable[LabelList]) -> list[ListProblem]:
    """One problem for each two lists that have other labels for the same images."""
    problems = []
    for first, second in combinations([listed for listed in lists if listed.paths], 2):
        if first.labels.shape[1] != second.labels.shape[1]:
            continue
        rows, others = common_rows(first, second)
        differ = np.flatnonzero((first.labels[rows] != second.labels[others]).any(axis=1))
        places = [_label_difference(first, rows[k], second, others[k]) for k in differ]
        if places:
            have = "image has" if len(places) == 1 else "images have"
            summary = (
                f"{first.file} and {second.file}: {len(places):,} {have} other labels in one list "
                f"than in the other: {_few(places)}"
            )
            problems.append(ListProblem(summary, tuple(places)))
    return problems


def _label_difference(first: LabelList, row: int, second: LabelList, other: int) -> str:
    ours, theirs = _vector(first.labels[row]), _vector(second.labels[other])
    places = first.place(row), second.place(other)
    return f"{first.paths[row]!r} is {ours} in {places[0]} and {theirs} in {places[1]}"


def _vector(labels: np.ndarray) -> str:
    if len(labels) <= _LONGEST_VECTOR:
        return " ".join(map(str, labels.tolist()))
    set_labels = ", ".join(str(k + 1) for k in np.flatnonzero(labels))
    return f"1 at {set_labels} of {len(labels)}" if set_labels else f"{len(labels)} zeros"


def _few(places: list[str]) -> str:
    more = [f"and {len(places) - _SHOWN:,} more"] if len(places) > _SHOWN else []
    return ", ".join(places[:_SHOWN] + more)
