"""The rules that published list files were drawn by: pure functions of (labels, seed)."""

from collections.abc import Sequence

import numpy as np

from input_pipeline.permutation import permutation
from input_pipeline.splits import DatabaseRule, Splits, database_rows

# Second key integers of `permutation`, besides those of `splits`: no two rules share a stream.
_GENERATOR_STREAM = 3
_PERMUTATION_STREAM = 4


def generator_splits(
    labels: np.ndarray,
    seed: int,
    train_per_class: int = 500,
    query_per_class: int = 100,
    class_names: Sequence[str] | None = None,
) -> Splits:
    """Fills a quota of training images and queries for every class of a multi-label set.

    The generator of nuswide_21 in the HashNet/DeepHash lists. All images are visited once in a
    random order. Each goes through its labels in column order: a label with training quota left
    makes it a training image; failing that, one with query quota left a query; failing that, the
    next label is asked. What no label takes is in the database only.

    Args:
      labels: uint8 [N, C], multi-hot.
      seed: any integer in [0, 2**64).
      train_per_class: training images that count for each class.
      query_per_class: queries that count for each class.
      class_names: C names for the error message; column numbers if None.

    Returns:
      `Splits` of exactly C * train_per_class and C * query_per_class images, both in the order
      of the visit, and of all images that are no queries, in file order, as database.

    Raises:
      ValueError: for a negative quota, or if the images run out before all quotas are full.
    """
    if min(train_per_class, query_per_class) < 0:
        raise ValueError(
            f"quotas must be 0 or more, got {train_per_class} training images and "
            f"{query_per_class} queries a class"
        )
    classes = labels.shape[1]
    train_left, query_left = [train_per_class] * classes, [query_per_class] * classes
    to_fill = classes * (train_per_class + query_per_class)
    train, query = [], []
    order = permutation(len(labels), seed, _GENERATOR_STREAM)
    columns, starts = _labels_by_row(labels)
    for row in order.tolist():
        if not to_fill:
            break
        for column in columns[starts[row] : starts[row + 1]]:
            left, rows = (train_left, train) if train_left[column] else (query_left, query)
            if left[column]:
                left[column] -= 1
                to_fill -= 1
                rows.append(row)
                break
    if to_fill:
        raise ValueError(_shortage(train_left, query_left, len(labels), class_names))
    is_query = np.zeros(len(labels), bool)
    is_query[query] = True
    return Splits(np.array(train, np.int64), np.array(query, np.int64), np.flatnonzero(~is_query))


def permutation_splits(
    n: int, seed: int, num_train: int, num_query: int, database: DatabaseRule = "rest"
) -> Splits:
    """Cuts one random order of all images: first training images, then queries, then the rest.

    The rule of mirflickr (4,000 and 1,000 of 25,000) and voc2012 (of 11,540).

    Args:
      n: how many images there are.
      seed: any integer in [0, 2**64).
      num_train: training images.
      num_query: queries.
      database: "rest" (neither query nor train), "train_and_rest" (train listed first) or
        "train".

    Returns:
      `Splits`, each in the random order.

    Raises:
      ValueError: for sizes below 0 or above `n` together, or an unknown `database` rule.
    """
    if min(num_train, num_query) < 0 or num_train + num_query > n:
        raise ValueError(
            f"{num_train} training images + {num_query} queries cannot be drawn from {n} images; "
            "give the complete data set"
        )
    order = permutation(n, seed, _PERMUTATION_STREAM)
    train, query, rest = np.split(order, [num_train, num_train + num_query])
    return Splits(train, query, database_rows(database, [train], [rest]))


def _labels_by_row(labels: np.ndarray) -> tuple[list[int], list[int]]:
    """All label columns, row after row, and where each row's start; one entry more for the end."""
    _, columns = np.nonzero(labels)
    starts = np.concatenate([[0], np.cumsum(np.count_nonzero(labels, axis=1))])
    return columns.tolist(), starts.tolist()


def _shortage(
    train_left: list[int], query_left: list[int], n: int, class_names: Sequence[str] | None
) -> str:
    names = class_names or [f"class {column}" for column in range(len(train_left))]
    lacking = [
        f"{name} lacks {train} training images and {query} queries"
        for name, train, query in zip(names, train_left, query_left, strict=True)
        if train or query
    ]
    more = f"; {len(lacking) - 10} classes more" if len(lacking) > 10 else ""
    return (
        f"{n} images are too few to fill every class's quota: {'; '.join(lacking[:10])}{more}. "
        "Give the complete data set"
    )
