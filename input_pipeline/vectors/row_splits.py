"""Which vectors train, query and fill the database: as the file says, or drawn from the seed."""

from collections.abc import Sequence

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.lists.folder_splits import QUERY_SHARE, TRAIN_SHARE, FolderSplits, draw_splits
from input_pipeline.lists.split_rules import permutation_splits
from input_pipeline.messages import counted
from input_pipeline.splits import Splits, database_rows
from input_pipeline.vectors.labels import RowLabels

_WORDS = ("train", "query", "database")


def given_splits(words: Sequence[str], what: str, rules: FolderSplits) -> Splits:
    """The splits that a word a row says, each in the order of the rows.

    Raises:
      DataError: other words, or numbers of a class beside them.
    """
    _refuse_per_class(rules, f"{what} says which row is in which split")
    found, ids = np.unique(np.asarray(words, np.str_), return_inverse=True)
    unknown = [str(word) for word in found if word not in _WORDS]
    if unknown:
        row = int(np.flatnonzero(ids == list(found).index(unknown[0]))[0])
        raise DataError(
            f"{what}: {unknown[0]!r} (row {row}) is no split; accepted: {', '.join(_WORDS)}"
        )
    train, query, rest = (np.flatnonzero(np.isin(ids, np.flatnonzero(found == x))) for x in _WORDS)
    return Splits(train, query, database_rows(rules.database, [train], [rest]))


def drawn_splits(labels: RowLabels, where: str, seed: int, rules: FolderSplits) -> Splits:
    """Shares of each class, or, where rows have several labels, of all rows.

    Raises:
      DataError: numbers of a class where rows have several.
      ValueError: too few rows.
    """
    class_ids = labels.class_ids()
    if class_ids is not None:
        present, ids = np.unique(class_ids, return_inverse=True)
        names = [labels.class_names[i] for i in present.tolist()]
        return draw_splits(where, ids.ravel(), names, seed, rules)
    _refuse_per_class(rules, f"rows of {where} have several labels, and are drawn over all rows")
    n = len(labels.multi_hot)
    train, query = (max(1, round(share * n)) for share in (TRAIN_SHARE, QUERY_SHARE))
    if n < 3:
        raise ValueError(
            f"{where} has {counted(n, 'vector')}, too few to draw splits from; give more"
        )
    return permutation_splits(n, seed, train, query, rules.database)


def _refuse_per_class(rules: FolderSplits, why: str) -> None:
    for name in ("query_per_class", "train_per_class"):
        if (value := getattr(rules, name)) is not None:
            raise DataError(f"data.{name}={value} means nothing here: {why}; leave it out")
