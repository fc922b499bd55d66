"""Checks what is ranked, and packs it into 64-bit words for the compiled loops."""

import dataclasses
import operator

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Int8, Integer, UInt64

from hybridhash_jax import codes as codes_lib

TIE_RULES = ("expected", "stable", "optimistic", "pessimistic")

Labels = Integer[np.ndarray, "N"] | Bool[np.ndarray, "N classes"]
# Of both sides: class ids [Q] and [M], or bool.
BothLabels = (
    tuple[Integer[np.ndarray, "Q"], Integer[np.ndarray, "M"]]
    | tuple[Bool[np.ndarray, "Q classes"], Bool[np.ndarray, "M classes"]]
)


@dataclasses.dataclass(frozen=True, eq=False)
class PackedItems:
    """Checked codes and labels of one side, packed word-major.

    Attributes:
        words: W = ceil(K / 64); unused bits are 0.
        labels: multi-hot bits; or, where every item of both sides has one label, class ids (L = 1).
    """

    words: UInt64[np.ndarray, "W N"]
    labels: UInt64[np.ndarray, "L N"]

    def __len__(self) -> int:
        return self.words.shape[1]


def pack_sides(
    query_codes: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    database_codes: npt.ArrayLike,
    database_labels: npt.ArrayLike,
) -> tuple[PackedItems, PackedItems, bool, int]:
    """Checks and packs what `rank` takes: (queries, database, are labels class ids?, bits)."""
    queries = codes_lib.check_codes(query_codes, "query_codes")
    database = codes_lib.check_codes(database_codes, "database_codes")
    left, right = check_labels(query_labels, database_labels)
    _check_sizes(queries, left, database, right)
    bits = queries.shape[1]
    codes_lib.distance_dtype(bits)  # refuses codes that are too long
    query_words, database_words, by_class = pack_labels((left, right))
    return (
        PackedItems(_words(queries), query_words),
        PackedItems(_words(database), database_words),
        by_class,
        bits,
    )


def pack_labels(
    sides: BothLabels,
) -> tuple[UInt64[np.ndarray, "L Q"], UInt64[np.ndarray, "L M"], bool]:
    """Packs what `check_labels` returned: (queries, database, are they class ids?)."""
    left, right = sides
    by_class = left.ndim == 1 or all((side.sum(axis=1) == 1).all() for side in sides)
    return _pack_labels(left, by_class), _pack_labels(right, by_class), by_class


def grades(queries: PackedItems, database: PackedItems, by_class: bool) -> int:
    """Returns one more than the most labels that a pair can share; at least 2."""
    if by_class:
        return 2
    most = min(int(np.bitwise_count(side.labels).sum(axis=0).max()) for side in (queries, database))
    return max(most, 1) + 1


def check_labels(query_labels: npt.ArrayLike, database_labels: npt.ArrayLike) -> BothLabels:
    """Returns both as class ids, or both as bool [N, classes]; all else is a ValueError."""
    queries = _check_label_values("query_labels", query_labels)
    database = _check_label_values("database_labels", database_labels)
    if queries.shape[1:] != database.shape[1:]:
        raise ValueError(
            f"query_labels {queries.shape} and database_labels {database.shape} do not match; "
            "give both as class ids [N], or both multi-hot [N, classes] over the same classes."
        )
    return queries, database


def check_top_k(top_k: object, database_size: int) -> int:
    """Returns how many places `top_k` ranks: M for None and for anything above M."""
    if top_k is None:
        return database_size
    places = _whole_number(top_k)
    if places is None or places < 1:
        raise ValueError(
            "top_k must be a whole number of 1 or more, or None for the whole database; got "
            f"{top_k!r}."
        )
    return min(places, database_size)


def check_radius(radius: object) -> int:
    """Returns a Hamming radius; what is no whole number of 0 or more is a ValueError."""
    number = _whole_number(radius)
    if number is None or number < 0:
        raise ValueError(f"radius must be a whole number of 0 or more; got {radius!r}.")
    return number


def check_places(places: npt.ArrayLike) -> Integer[np.ndarray, "P"]:
    """Returns ranks as an array; what is no list of whole numbers from 1 on is a ValueError."""
    try:
        chosen = np.asarray(places)
    except ValueError:  # lists of different lengths
        chosen = np.empty((), object)
    if chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer) or (chosen < 1).any():
        raise ValueError(f"places must be whole numbers [P] of 1 or more; got {places!r}.")
    return chosen


def check_ties(ties: str, accepted: tuple[str, ...] = TIE_RULES) -> str:
    """Returns `ties`; an unknown rule is a ValueError that names the known ones."""
    if ties in accepted:
        return ties
    names = [f'"{name}"' for name in accepted]
    raise ValueError(f"ties must be {', '.join(names[:-1])} or {names[-1]}; got {ties!r}.")


def _whole_number(value: object) -> int | None:
    """Returns an integer of Python or NumPy; None for what is none, True and False included."""
    try:
        return None if isinstance(value, bool) else operator.index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:
        return None


def _pack_labels(labels: Labels, by_class: bool) -> UInt64[np.ndarray, "L N"]:
    if not by_class:
        return _words(labels)
    ids = labels if labels.ndim == 1 else labels.argmax(axis=1)
    return np.ascontiguousarray(ids, np.int64).view(np.uint64)[None]


def _words(bits: Int8[np.ndarray, "N K"] | Bool[np.ndarray, "N K"]) -> UInt64[np.ndarray, "W N"]:
    return codes_lib.to_words(bits).astype(np.uint64, copy=False)


def _check_label_values(name: str, labels: npt.ArrayLike) -> Labels:
    array = np.asarray(labels)
    if array.ndim == 1 and np.issubdtype(array.dtype, np.integer):
        return array
    if array.ndim == 2 and array.shape[1]:
        ones = array == 1
        if (ones | (array == 0)).all():
            return ones
    raise ValueError(
        f"{name} must be multi-hot [N, classes] of 0 and 1, or integer class ids [N]; got shape "
        f"{array.shape} of {array.dtype}."
    )


def _check_sizes(
    query_codes: np.ndarray, query_labels: np.ndarray, codes: np.ndarray, labels: np.ndarray
) -> None:
    sides = (("query", query_codes, query_labels), ("database", codes, labels))
    for side, side_codes, side_labels in sides:
        if len(side_codes) != len(side_labels):
            raise ValueError(
                f"{side}_codes has {len(side_codes)} rows and {side}_labels has "
                f"{len(side_labels)}; give one label row a code."
            )
        if len(side_codes) == 0:
            raise ValueError(f"{side}_codes is empty; a ranking needs at least one item a side.")
    if query_codes.shape[1] != codes.shape[1]:
        raise ValueError(
            f"query_codes has {query_codes.shape[1]} bits and database_codes has "
            f"{codes.shape[1]}; encode both with the same model."
        )
