"""Which images train, query and fill the database: pure functions of (labels, seed).

Published codes draw them without a seed; here a seed gives the same split on every machine.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from input_pipeline.permutation import permutation

# Neither queries nor training images; the training images and then those; the training images.
DatabaseRule = Literal["rest", "train_and_rest", "train"]
DATABASE_RULES: tuple[DatabaseRule, ...] = get_args(DatabaseRule)

# The second key integer of `permutation`, so that no two uses of one seed share a stream.
_CLASS_SPLIT_STREAM = 1
_HOLD_OUT_STREAM = 2


@dataclass(frozen=True, eq=False)
class Splits:
    """Image numbers of one protocol, each an int64 [M] array without repeats.

    Queries are disjoint from the other two; the database may contain `train`.
    """

    train: np.ndarray
    query: np.ndarray
    database: np.ndarray

    def by_name(self) -> dict[str, np.ndarray]:
        """The three, in the order of their lists."""
        return {"train": self.train, "query": self.query, "database": self.database}


@dataclass(frozen=True)
class Protocol:
    """How splits of some data sets are drawn; mAP@top_k, None: whole database.

    Of each class so many queries and training images, from all images: `class_splits`. Where
    `query_per_class` is None: `official_splits`.
    """

    datasets: tuple[str, ...]
    query_per_class: int | None
    train_per_class: int | None
    database: DatabaseRule
    top_k: int | None = None


# CIFAR-10's three are the ones of the deep-hashing literature (HashNet, DeepHash): 1,000
# queries and 5,000 training images without or with those in the database, and the full set.
_CIFAR10, _DIGITS, _MNIST = ("cifar10",), ("digits",), ("fashion_mnist", "mnist")
PROTOCOLS: dict[str, Protocol] = {
    "cifar10": Protocol(_CIFAR10, 100, 500, "rest"),
    "cifar10-1": Protocol(_CIFAR10, 100, 500, "train_and_rest"),
    "cifar10-2": Protocol(_CIFAR10, 1000, 5000, "train"),
    "digits": Protocol(_DIGITS, 20, 100, "rest"),
    "official": Protocol(_MNIST, None, None, "train"),
    "official-10k": Protocol(_MNIST, None, 1000, "train"),
    "5k": Protocol(_MNIST, 100, 500, "rest"),
    "5k-1": Protocol(_MNIST, 100, 500, "train_and_rest"),
}


@dataclass(frozen=True)
class ListProtocol:
    """Lines and labels a line of published list files, None for any; mAP@top_k as above."""

    num_train: int | None = None
    num_query: int | None = None
    num_database: int | None = None
    num_classes: int | None = None
    top_k: int | None = None


# The lists of HashNet and of the codes that follow it; "lists" are anybody's own.
LIST_PROTOCOLS: dict[str, ListProtocol] = {
    "nuswide_21": ListProtocol(10_500, 2_100, 193_734, 21, 5000),
    "nuswide_21_m": ListProtocol(10_500, 2_100, None, 21, 5000),
    "nuswide_81_m": ListProtocol(10_000, 5_000, 168_692, 81, 5000),
    "imagenet100": ListProtocol(13_000, 5_000, 128_503, 100, 1000),
    "coco": ListProtocol(10_000, 5_000, 117_218, 80, 5000),
    "mirflickr": ListProtocol(4_000, 1_000, 20_000, 38),
    "voc2012": ListProtocol(4_000, 1_000, 6_540, 20),
    "lists": ListProtocol(),
}


def class_splits(
    class_ids: np.ndarray,
    seed: int,
    query_per_class: int | np.ndarray,
    train_per_class: int | np.ndarray,
    database: DatabaseRule,
) -> Splits:
    """Draws so many queries and training images, int or [C], from every class.

    The images of each class, whose `class_ids` are int [N], 0..C-1, are permuted by the seed, in
    [0, 2**64): the first are queries, the next training images, the rest database. Rows are in
    the order of class and permutation. ValueError for a class with too few images.
    """
    train, query, rest = [], [], []
    classes = int(np.max(class_ids, initial=-1)) + 1
    queries = np.broadcast_to(query_per_class, classes).tolist()
    trained = np.broadcast_to(train_per_class, classes).tolist()
    for class_id, (num_query, num_train) in enumerate(zip(queries, trained, strict=True)):
        members = np.flatnonzero(class_ids == class_id)
        needed = num_query + num_train
        if len(members) < needed:
            raise ValueError(
                f"class {class_id} has {len(members)} images, too few for {num_query} "
                f"queries + {num_train} training images = {needed} a class; give the "
                f"complete data set (there are {len(class_ids)} images in all) or a smaller "
                "protocol"
            )
        members = members[permutation(len(members), seed, _CLASS_SPLIT_STREAM, class_id)]
        query.append(members[:num_query])
        train.append(members[num_query:needed])
        rest.append(members[needed:])
    return Splits(_join(train), _join(query), database_rows(database, train, rest))


def official_splits(
    class_ids: np.ndarray,
    num_train: int,
    seed: int,
    train_per_class: int | None,
    database: DatabaseRule,
) -> Splits:
    """Takes the published test images, those from `num_train` on, as the queries.

    The published training images are trained on and searched; or so many of every class, drawn
    as by `class_splits`, and the database that the rule makes of them and the others.
    """
    train, query = np.split(np.arange(len(class_ids), dtype=np.int64), [num_train])
    if train_per_class is None:
        return Splits(train, query, train)
    drawn = class_splits(class_ids[:num_train], seed, 0, train_per_class, database)
    return Splits(drawn.train, query, drawn.database)


def database_rows(
    rule: DatabaseRule, train: list[np.ndarray], rest: list[np.ndarray]
) -> np.ndarray:
    """The database that a rule makes of training rows and of rows that are neither, in parts."""
    parts = {"rest": rest, "train_and_rest": train + rest, "train": train}
    if rule not in parts:
        raise ValueError(f"database is {rule!r}; accepted: {', '.join(map(repr, DATABASE_RULES))}")
    return _join(parts[rule])


def _join(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def hold_out(rows: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(kept, held_out): `rows`, int [M], and a random part of them, both int64 in the old order.

    The part is `fraction`, in [0, 1), rounded, but one row at least unless it is 0. ValueError if
    none would be kept.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"the held-out fraction must be in [0, 1), got {fraction}")
    count = max(1, round(fraction * len(rows))) if fraction else 0
    if count and count >= len(rows):
        raise ValueError(
            f"holding out {fraction} of {len(rows)} rows leaves none to train on; "
            "use a smaller fraction or more training images"
        )
    chosen = np.zeros(len(rows), bool)
    chosen[permutation(len(rows), seed, _HOLD_OUT_STREAM)[:count]] = True
    rows = np.asarray(rows, np.int64)
    return rows[~chosen], rows[chosen]
