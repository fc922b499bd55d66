"""The splits that are drawn from a set with one class an image: a share, or so many, of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from input_pipeline.messages import one_line, shortened
from input_pipeline.splits import DatabaseRule, Splits, class_splits

QUERY_SHARE, TRAIN_SHARE = 0.1, 0.5


@dataclass(frozen=True)
class FolderSplits:
    """How a folder with one subfolder a class is split; see `splits.class_splits`.

    None takes a tenth of each class as queries, and half of it for training.
    """

    query_per_class: int | None = None
    train_per_class: int | None = None
    database: DatabaseRule = "rest"


def draw_splits(
    where: str, class_ids: np.ndarray, class_names: Sequence[str], seed: int, rules: FolderSplits
) -> Splits:
    """Splits of the images of `class_ids` int [N]; ValueError, naming `where`, for small classes."""
    counts = np.bincount(class_ids)
    query = per_class_or_share(rules.query_per_class, counts, QUERY_SHARE)
    train = per_class_or_share(rules.train_per_class, counts, TRAIN_SHARE)
    _check_counts(where, class_names, counts, query, train)
    return class_splits(class_ids, seed, query, train, rules.database)


def per_class_or_share(given: int | None, counts: np.ndarray, share: float) -> np.ndarray:
    """How many images of each class: as many as given, or a share of it; at least one."""
    if given is not None:
        return np.full(len(counts), given)
    return np.maximum(1, np.round(share * counts).astype(np.int64))


def _check_counts(
    where: str, names: Sequence[str], counts: np.ndarray, query: np.ndarray, train: np.ndarray
) -> None:
    """Refuses sizes that some classes do not have, naming all of these."""
    short = np.flatnonzero(counts < query + train)
    if not len(short):
        return
    listed = shortened([f"{one_line(names[i])} {counts[i]:,}" for i in short.tolist()], 20)
    least = int(counts.min())
    fits = (
        f"sizes that fit: --config.data.query_per_class={max(1, least // 6)} "
        f"--config.data.train_per_class={max(1, least // 2)}, or leave both out for shares of each "
        "class"
        if least > 1
        else "a class needs two images at least: move such classes away, or add images"
    )
    raise ValueError(
        f"{where}: {len(short)} of {len(names)} classes have too few images for "
        f"query_per_class={int(query[short[0]])} and train_per_class={int(train[short[0]])}: {listed}; "
        f"{fits}"
    )
