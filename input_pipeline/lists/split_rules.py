"""The rules that published list files were drawn by: pure functions of (labels, seed)."""

from collections.abc import Sequence

import numpy as np

from input_pipeline.messages import shortened
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
    """Fills a quota of training images and queries for every class of labels uint8 [N, C].

    The generator of nuswide_21 in the HashNet/DeepHash lists. All images are visited once in a
    random order. Each goes through its labels in column order: a label with training quota left
    makes it a training image; failing that, one with query quota left a query; failing that, the
    next label is asked. ValueError if the images run out before all quotas are full.

    Training images and queries are in the order of the visit; the database has all images that are
    no queries, in file order.
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
    for row in order.tolist():
        if not to_fill:
            break
        for column in np.flatnonzero(labels[row]).tolist():
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
    """
    if min(num_train, num_query) < 0 or num_train + num_query > n:
        raise ValueError(
            f"{num_train} training images + {num_query} queries cannot be drawn from {n} images; "
            "give the complete data set"
        )
    order = permutation(n, seed, _PERMUTATION_STREAM)
    train, query, rest = np.split(order, [num_train, num_train + num_query])
    return Splits(train, query, database_rows(database, [train], [rest]))


def _shortage(
    train_left: list[int], query_left: list[int], n: int, class_names: Sequence[str] | None
) -> str:
    names = class_names or [f"class {column}" for column in range(len(train_left))]
    lacking = [
        f"{name} lacks {train} training images and {query} queries"
        for name, train, query in zip(names, train_left, query_left, strict=True)
        if train or query
    ]
    return (
        f"{n} images are too few to fill every class's quota: {shortened(lacking, 10)}. Give the "
        "complete data set"
    )
