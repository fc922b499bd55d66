"""Checks of what is ranked, and its packing into 64-bit words for the compiled loops."""

import dataclasses

import numpy as np
import numpy.typing as npt

from hybridhash_jax.codes import binary as codes_lib

TIE_RULES = ("expected", "stable", "optimistic", "pessimistic")
_ROWS_A_CHECK = 1 << 12  # codes that stay in the second-level cache while they are checked


@dataclasses.dataclass(frozen=True, eq=False)
class PackedItems:
    """Codes and labels of one side, checked and packed, word-major.

    Attributes:
        words: uint64 [W, N], W = ceil(K / 64); unused bits are 0.
        labels: multi-hot as uint64 [L, N] bit words; or, where every item of both sides has
            exactly one label, class ids as uint64 [1, N].
    """

    words: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return self.words.shape[1]


def pack_sides(
    query_codes: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    database_codes: npt.ArrayLike,
    database_labels: npt.ArrayLike,
) -> tuple[PackedItems, PackedItems, bool, int]:
    """Checks both sides and packs them: (queries, database, labels are class ids, bits).

    Arguments and errors are those of `metrics.rank`.
    """
    queries = check_codes(query_codes, "query_codes")
    database = check_codes(database_codes, "database_codes")
    left, right = check_labels(query_labels, database_labels)
    _check_sizes(queries, left, database, right)
    codes_lib.distance_dtype(queries.shape[1])  # refuses codes that are too long
    left, right, by_class = _pack_labels(left, right)
    return (
        PackedItems(_to_words(queries), left),
        PackedItems(_to_words(database), right),
        by_class,
        queries.shape[1],
    )


def grades(queries: PackedItems, database: PackedItems, by_class: bool) -> int:
    """How many grades there are: one more than the labels that a pair can share, at least 2."""
    if by_class:
        return 2
    most = min(int(np.bitwise_count(side.labels).sum(axis=0).max()) for side in (queries, database))
    return max(most, 1) + 1


def narrow(labels: np.ndarray) -> np.ndarray:
    """Packed labels in the narrowest unsigned words that hold them.

    Vectors take more of them at a time, and a stable sort of 16 bits or fewer needs no comparison.
    """
    return labels.astype(np.min_scalar_type(labels.max()), copy=False)


def rows_of_classes(
    query_ids: np.ndarray, database_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Database rows by class, ascending in each: query q's are `rows[start[q] : stop[q]]`.

    Args:
        query_ids, database_ids: class ids, uint64 [Q] and [M].

    Returns:
        rows int64 [M], start and stop int64 [Q].
    """
    rows = np.argsort(narrow(database_ids), kind="stable")
    classes = database_ids[rows]
    start, stop = (np.searchsorted(classes, query_ids, side) for side in ("left", "right"))
    return rows, start, stop


def check_codes(codes: npt.ArrayLike, name: str) -> np.ndarray:
    """`codes.check_codes`, without its copy where `codes` has the form that it returns."""
    array = np.asarray(codes)
    if array.dtype == np.int8 and array.ndim == 2 and array.shape[1]:
        # As bytes, -1 and +1 are 255 and 1: one more is 0 or 2, with no bit but the second.
        blocks = (
            array[start : start + _ROWS_A_CHECK].view(np.uint8)
            for start in range(0, len(array), _ROWS_A_CHECK)
        )
        if not any(((rows + 1) & 0xFD).any() for rows in blocks):
            return array
    return codes_lib.check_codes(array, name)


def check_labels(
    query_labels: npt.ArrayLike, database_labels: npt.ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Returns both as class ids, or both as bool [N, classes]; ValueError where they are neither.

    Class ids are of any integer dtype [N]; multi-hot labels are 0 and 1 of any dtype.
    """
    queries = _check_label_values("query_labels", query_labels)
    database = _check_label_values("database_labels", database_labels)
    if queries.shape[1:] != database.shape[1:]:
        raise ValueError(
            f"query_labels {queries.shape} and database_labels {database.shape} do not match; "
            "give both as class ids [N], or both multi-hot [N, classes] over the same classes."
        )
    return queries, database


def check_top_k(top_k: int | None, database_size: int) -> int:
    """Returns the number of places that `top_k` ranks: M for None and for anything above M."""
    if top_k is None:
        return database_size
    if top_k < 1:
        raise ValueError(f"top_k must be 1 or more, or None for the whole database; got {top_k}.")
    return min(int(top_k), database_size)


def check_ties(ties: str, accepted: tuple[str, ...] = TIE_RULES) -> str:
    """Returns `ties`; ValueError, which names what is accepted, for an unknown rule."""
    if ties in accepted:
        return ties
    names = [f'"{name}"' for name in accepted]
    raise ValueError(f"ties must be {', '.join(names[:-1])} or {names[-1]}; got {ties!r}.")


def _to_words(bits: np.ndarray) -> np.ndarray:
    return codes_lib.to_words(bits).astype(np.uint64, copy=False)


def _pack_labels(queries: np.ndarray, database: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Packs both sides as `PackedItems` has them, and says whether they are class ids.

    One-hot labels become ids: equal ids are cheaper to find than common labels.
    """
    if queries.ndim == 1:
        left, right = (side.astype(np.int64).view(np.uint64)[None] for side in (queries, database))
        return left, right, True
    left, right = _label_words(queries), _label_words(database)
    if all((np.bitwise_count(words).sum(axis=0) == 1).all() for words in (left, right)):
        return _ids_of_words(left), _ids_of_words(right), True
    return left, right, False


def _label_words(labels: np.ndarray) -> np.ndarray:
    """Packs bool [N, classes] as uint64 [L, N]; the unused bits of the last word are 0."""
    packed = np.packbits(labels, axis=1)
    width = packed.shape[1]
    padded = np.zeros((len(labels), -(-width // 8) * 8), np.uint8)
    padded[:, :width] = packed
    return np.ascontiguousarray(padded.view(np.uint64).T)


def _ids_of_words(words: np.ndarray) -> np.ndarray:
    """The place of the only set bit of each item, uint64 [1, N]."""
    first = np.arange(0, 64 * len(words), 64, dtype=np.uint64)[:, None]
    return np.where(words, np.bitwise_count(words - np.uint64(1)) + first, 0).sum(
        axis=0, dtype=np.uint64, keepdims=True
    )


def _check_label_values(name: str, labels: npt.ArrayLike) -> np.ndarray:
    array = np.asarray(labels)
    if array.ndim == 1 and np.issubdtype(array.dtype, np.integer):
        return array
    if array.ndim == 2 and array.shape[1]:
        if array.dtype in (bool, np.uint8, np.int8):
            if (array.view(np.uint8) <= 1).all():
                return array.view(bool)
        else:
            ones = array == 1
            if (ones | (array == 0)).all():
                return ones
    raise ValueError(
        f"{name} must be multi-hot [N, classes] of 0 and 1, or integer class ids [N]; got shape "
        f"{array.shape} of {array.dtype}."
    )


def _check_sizes(
    queries: np.ndarray, query_labels: np.ndarray, database: np.ndarray, labels: np.ndarray
) -> None:
    sides = (("query", queries, query_labels), ("database", database, labels))
    for side, side_codes, side_labels in sides:
        if len(side_codes) != len(side_labels):
            raise ValueError(
                f"{side}_codes has {len(side_codes)} rows and {side}_labels has "
                f"{len(side_labels)}; give one label row a code."
            )
        if len(side_codes) == 0:
            raise ValueError(f"{side}_codes is empty; a ranking needs at least one item a side.")
    if queries.shape[1] != database.shape[1]:
        raise ValueError(
            f"query_codes has {queries.shape[1]} bits and database_codes has "
            f"{database.shape[1]}; encode both with the same model."
        )
