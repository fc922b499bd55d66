"""The three lists of one data set together: their images, and where the lists contradict."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.lists.label_lists import (
    LabelList,
    parse_list,
    read_class_names,
    read_list,
    read_list_bytes,
)
from input_pipeline.messages import shortened
from input_pipeline.splits import ListProtocol, Splits

# In the order in which they go into checksums.
LIST_FILES = {"train": "train.txt", "query": "test.txt", "database": "database.txt"}
_SHOWN = 3
_LONGEST_VECTOR = 24  # longer label vectors are told by their ones


@dataclass(frozen=True, eq=False)
class ListedImages:
    """All images of three lists, each once, in the order of train, query, database.

    `labels` are uint8 [N, classes], 0 or 1; `splits` are rows in the order of the lists.
    """

    names: list[str]
    labels: np.ndarray
    splits: Splits


@dataclass(frozen=True)
class ListProblem:
    """A contradiction in one line, with the first few images; `details` have a line an image."""

    summary: str
    details: tuple[str, ...] = ()


def load_lists(
    directory: str | os.PathLike[str],
    names: Sequence[str] = tuple(LIST_FILES.values()),
    num_classes: int | None = None,
) -> list[LabelList]:
    """Reads the train, query and database list of a folder, also on a bucket, by these names."""
    return [read_list(list_path(directory, name), num_classes) for name in names]


def parse_lists(
    directory: str | os.PathLike[str], names: Sequence[str], num_classes: int | None = None
) -> tuple[list[LabelList], list[ListProblem]]:
    """As `load_lists`, with the problems told; a list is empty where it cannot be read at all."""
    lists, problems = [], []
    for name in names:
        file = list_path(directory, name)
        try:
            found, texts = parse_list(read_list_bytes(file), file, num_classes)
        except DataError as error:
            found, texts = LabelList([], np.zeros((0, 1), np.uint8), file), [str(error)]
        lists.append(found)
        problems += [ListProblem(text) for text in texts]
    return lists, problems


def fitting_class_names(
    directory: str, lists: Sequence[LabelList]
) -> tuple[tuple[str, ...] | None, list[ListProblem]]:
    """The lines of classes.txt beside the lists, or None; and why it does not fit them."""
    try:
        names = read_class_names(directory)
    except DataError as error:
        return None, [ListProblem(str(error))]
    if names is None:  # it need not be there
        return None, []
    wrong = {x.labels.shape[1] for x in lists if x.paths} - {len(names)}
    if not wrong:
        return names, []
    widths = " and ".join(map(str, sorted(wrong)))
    file = list_path(directory, "classes.txt")
    text = f"{file}: names {len(names)} classes, but there are {widths} labels a line"
    return None, [ListProblem(text)]


def list_path(directory: str | os.PathLike[str], name: str) -> str:
    """The path of a list: `name` in `directory`, or `name` alone if it is absolute."""
    path = os.path.expanduser(name)
    return path if "://" in path else os.path.join(os.fspath(directory), path)


def join_lists(train: LabelList, query: LabelList, database: LabelList) -> ListedImages:
    """Numbers the images of three lists, each image once however many lists it is in.

    Overlaps are kept; `list_problems` tells which are mistakes. DataError for two lists with other
    labels for one image, or another number of labels.
    """
    lists = (train, query, database)
    if problems := [*_width_problems(lists), *_label_problems(lists)]:
        raise DataError(f"{problems[0].summary}; correct the lists and try again")
    numbers: dict[str, int] = {}
    rows, new_labels = [], []
    for listed in lists:
        known = len(numbers)
        found = [numbers.setdefault(path, len(numbers)) for path in listed.paths]
        rows.append(np.array(found, np.int64))
        new_labels.append(listed.labels[rows[-1] >= known])
    labels = np.concatenate([part for part in new_labels if len(part)] or new_labels[:1])
    return ListedImages(list(numbers), labels, Splits(*rows))


def list_problems(
    train: LabelList, query: LabelList, database: LabelList, expected: ListProtocol
) -> list[ListProblem]:
    """Queries that are also elsewhere, lists that disagree on labels, and unexpected sizes.

    An image that is query and database finds itself at distance 0, which raises every metric.
    Training images may be in the database. A list without images is passed over.
    """
    lists = (train, query, database)
    return [
        *_overlap_problem(query, database, "both query and database"),
        *_overlap_problem(query, train, "both query and training image"),
        *_width_problems(lists),
        *_label_problems(lists),
        *_size_problems(lists, expected),
    ]


def label_use_problems(lists: Sequence[LabelList]) -> list[ListProblem]:
    """Training images with no label or one alone, and labels of queries that the database lacks."""
    train, query, database = lists
    problems = []
    used = np.flatnonzero(train.labels.any(axis=0))
    if train.paths and not len(used):
        problems.append(f"{train.file}: not one training image has a label")
    elif len(used) == 1:
        problems.append(
            f"{train.file}: the training images have one class, label {used[0] + 1} (column, counted "
            "from 1), and two are needed to tell apart"
        )
    if query.paths and database.paths and query.labels.shape[1] == database.labels.shape[1]:
        lacking = np.flatnonzero(query.labels.any(axis=0) & ~database.labels.any(axis=0))
        if len(lacking):
            columns = shortened([str(k + 1) for k in lacking.tolist()])
            problems.append(
                f"{database.file}: no image has the labels {columns} (columns, counted from 1), "
                f"which queries of {query.file} have: nothing can be found for them"
            )
    return [ListProblem(text) for text in problems]


def _size_problems(lists: Iterable[LabelList], expected: ListProtocol) -> list[ListProblem]:
    counts = (expected.num_train, expected.num_query, expected.num_database)
    problems = []
    for listed, count in zip(lists, counts, strict=True):
        if not listed.paths:
            continue
        if count is not None and len(listed.paths) != count:
            problems.append(f"{listed.file}: {len(listed.paths):,} images, expected {count:,}")
        classes = listed.labels.shape[1]
        if expected.num_classes is not None and classes != expected.num_classes:
            problems.append(f"{listed.file}: {classes} classes, expected {expected.num_classes}")
    return [ListProblem(text) for text in problems]


def _common_rows(first: LabelList, second: LabelList) -> list[tuple[int, int]]:
    """Rows of the images that two lists have in common, in the first's order."""
    numbers = {path: row for row, path in enumerate(second.paths)}
    return [(i, numbers[path]) for i, path in enumerate(first.paths) if path in numbers]


def _overlap_problem(first: LabelList, second: LabelList, what: str) -> list[ListProblem]:
    places = [
        f"{first.paths[i]!r} ({first.place(i)} and {second.place(j)})"
        for i, j in _common_rows(first, second)
    ]
    if not places:
        return []
    are = "image is" if len(places) == 1 else "images are"
    files, few = f"{first.file} and {second.file}", shortened(places, _SHOWN)
    summary = f"{files}: {len(places):,} {are} {what}: {few}"
    return [ListProblem(summary, tuple(f"{place} is {what}" for place in places))]


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
        rows, others = np.array(_common_rows(first, second), np.int64).reshape(-1, 2).T
        differ = np.flatnonzero((first.labels[rows] != second.labels[others]).any(axis=1))
        places = [_label_difference(first, rows[k], second, others[k]) for k in differ]
        if places:
            have = "image has" if len(places) == 1 else "images have"
            summary = (
                f"{first.file} and {second.file}: {len(places):,} {have} other labels in one list "
                f"than in the other: {shortened(places, _SHOWN)}"
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
