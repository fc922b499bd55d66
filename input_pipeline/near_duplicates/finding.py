"""Near-duplicates among pictures: candidates by their hashes, verified by laying them over."""

import contextlib
import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from input_pipeline.near_duplicates.alignment import similarities
from input_pipeline.near_duplicates.pictures import Pictures
from input_pipeline.near_duplicates.radius import Pairs, pairs_within
from input_pipeline.near_duplicates.views import VIEWS, View, matrices, view_hashes
from input_pipeline.threads import available_cores, map_in_threads

# Chosen by benchmarks/near_duplicates.py; see docs/duplicates.md.
RADIUS, SIMILARITY = 12, 0.84
_ROWS = 256  # pictures whose views are made at once
_PAIRS_AT_ONCE = 512  # that a thread verifies
# Whole images with hashes this near are hardly ever different ones, so less similarity is enough:
# that much of what is asked for. Blur and noise take it from images with little in them.
_NEAR_BITS, _NEAR_SHARE = 4, 0.75
_AS_GOOD = 0.03  # difference of similarities that says nothing
_ALL_WITH_ALL = 10_000  # most pairs of equal images of one side with equal ones of the other
_TRIED = 3  # views of a pair, those of the nearest hashes


@dataclass(frozen=True)
class Options:
    """What counts as nearly the same.

    Attributes:
      view: which views of an image are looked for: "plain", "dihedral" or "multi".
      radius: most bits in which the hashes of two candidates differ.
      similarity: least of `alignment.similarities`, 1 for the same content; three quarters of it are
        enough for whole images whose hashes differ in at most 4 bits.
      num_workers: threads.
    """

    view: str = "multi"
    radius: int = RADIUS
    similarity: float = SIMILARITY
    num_workers: int = available_cores()


class Found(NamedTuple):
    """Pairs of near-duplicates by their rows, the most similar first.

    Attributes:
      first: int64 [P].
      second: int64 [P].
      distances: uint8 [P], bits between the hashes that made them candidates.
      similarities: float32 [P].
      views: int64 [P], of `VIEWS[view]()`.
      reversed: bool [P]: the first shows a view of the second, and not the second of the first.
      exact: bool [P]: hash and picture are equal. Among three or more equal ones, only the first is
        paired with each other one, and it alone with those that are similar. Of two sides, all
        equal ones are paired with those of the other; where that would be more than 10,000 pairs,
        the first two of each side with all of the other.
    """

    first: np.ndarray
    second: np.ndarray
    distances: np.ndarray
    similarities: np.ndarray
    views: np.ndarray
    reversed: np.ndarray
    exact: np.ndarray


def near_duplicates(
    first: Pictures,
    second: Pictures | None = None,
    options: Options = Options(),
    progress: Callable[[int], object] = lambda _: None,
) -> Found:
    """Pairs of images nearly the same: rows i < j of `first`, or a row of each where two are given.

    `progress` is called with numbers of images that add up to `work(first, second)`.

    Raises:
      ValueError: there are too many candidates to verify.
    """
    views = VIEWS[options.view]()
    own = _Side(first)
    if second is None:
        found = _joined([_looked_for(own, own, views, options, progress), own.copies()])
        return _best_of_each(_smaller_first(found))
    other = _Side(second)
    found = [_looked_for(own, other, views, options, progress)]
    back = _looked_for(other, own, views, options, progress, first_view=1)
    found.append(back._replace(first=back.second, second=back.first, reversed=~back.reversed))
    found.append(_equal(own, other))
    return _with_copies(_best_of_each(_joined(found)), own, other)


def work(first: Pictures, second: Pictures | None = None) -> int:
    """How many images `near_duplicates` goes through."""
    return len(first) + (len(second) if second is not None else 0)


class _Side:
    """Images, and which of them are compared: of equal ones the first, and none that is flat."""

    def __init__(self, pictures: Pictures):
        self.pictures = pictures
        self.owners: dict[bytes, int] = {}  # the first image by hash and picture
        self.owner = np.arange(len(pictures))
        for row, (value, small) in enumerate(zip(pictures.hashes, pictures.small, strict=True)):
            digest = hashlib.blake2b(value.tobytes() + small.tobytes(), digest_size=16).digest()
            self.owner[row] = self.owners.setdefault(digest, row)
        is_first = self.owner == np.arange(len(pictures))
        self.compared = np.flatnonzero(is_first & ~pictures.flat())

    def copies(self) -> Found:
        """The pairs of the first of equal ones with each other one."""
        rows = np.flatnonzero(self.owner != np.arange(len(self.owner)))
        return _found(self.owner[rows], rows, exact=True)


def _found(first: np.ndarray, second: np.ndarray, *, exact: bool = False) -> Found:
    """Pairs that are the same until more is known."""
    count = len(first)
    return Found(
        first,
        second,
        np.zeros(count, np.uint8),
        np.ones(count, np.float32),
        np.zeros(count, np.int64),
        np.zeros(count, bool),
        np.full(count, exact),
    )


def _looked_for(
    side: _Side,
    among: _Side,
    views: list[View],
    options: Options,
    progress: Callable[[int], object],
    first_view: int = 0,
) -> Found:
    """Looks for views of the images of one side among those of another as they are."""
    found = [_found(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    hashes, workers = among.pictures.hashes[among.compared], options.num_workers
    if not first_view:  # the stored hashes are those of the first view
        others = None if side is among else hashes
        of_side = side.pictures.hashes[side.compared]
        near = pairs_within(of_side, options.radius, others, num_workers=workers)
        candidates = _Candidates(
            side.compared[near.first], among.compared[near.second], near.distances, 0 * near.first
        )
        found.append(_verified(side, among, candidates, views, options))
    rest = list(range(1, len(views)))
    for start in range(0, len(side.compared), _ROWS) if rest else ():
        rows = side.compared[start : start + _ROWS]
        shapes = side.pictures.shapes[rows]
        of_views = view_hashes(side.pictures.small[rows], views[1:], shapes).reshape(-1)
        near = pairs_within(of_views, options.radius, hashes, num_workers=workers)
        candidates = _nearest_views(near, rows, among.compared, len(rest), side is among)
        found.append(_verified(side, among, candidates, views, options))
        progress(len(rows))
    progress(len(side.pictures) - len(side.compared) * bool(rest))
    return _joined(found)


class _Candidates(NamedTuple):
    rows: np.ndarray
    others: np.ndarray
    distances: np.ndarray
    views: np.ndarray

    def take(self, which: np.ndarray | slice) -> "_Candidates":
        return _Candidates(*(column[which] for column in self))


def _nearest_views(
    near: Pairs, rows: np.ndarray, among: np.ndarray, count: int, same: bool
) -> _Candidates:
    """The few views of each pair of images whose hashes are nearest."""
    found = _Candidates(
        rows[near.first // count], among[near.second], near.distances, near.first % count + 1
    )
    if same:
        found = found.take(found.rows != found.others)
    found = found.take(np.lexsort((found.views, found.distances, found.others, found.rows)))
    places = np.arange(len(found.rows))
    begins = _changes(found.rows) | _changes(found.others)
    return found.take(places - np.maximum.accumulate(np.where(begins, places, 0)) < _TRIED)


def _changes(values: np.ndarray) -> np.ndarray:
    """Where a value differs from the one before it; True at the first."""
    changed = np.ones(len(values), bool)
    changed[1:] = values[1:] != values[:-1]
    return changed


def _verified(
    side: _Side, among: _Side, candidates: _Candidates, views: list[View], options: Options
) -> Found:
    pictures, others = side.pictures, among.pictures

    def compare(start: int) -> np.ndarray:
        part = candidates.take(slice(start, start + _PAIRS_AT_ONCE))
        starts = np.empty((len(part.rows), 2, 3), np.float32)
        for view in np.unique(part.views).tolist():
            of_view = part.views == view
            shapes = pictures.shapes[part.rows[of_view]]
            starts[of_view] = matrices([views[view]], shapes)[:, 0]
        pairs = np.column_stack([part.rows, part.others])
        return similarities(pictures.small, others.small, pairs, starts)

    parts = range(0, len(candidates.rows), _PAIRS_AT_ONCE)
    with contextlib.closing(map_in_threads(compare, parts, options.num_workers)) as results:
        alike = np.concatenate([np.zeros(0, np.float32), *results])
    whole = np.array([view.is_whole for view in views])[candidates.views]
    near = whole & (candidates.distances <= _NEAR_BITS)
    kept = alike >= np.where(near, _NEAR_SHARE, 1) * options.similarity
    candidates = candidates.take(kept)
    return _found(candidates.rows, candidates.others)._replace(
        distances=candidates.distances, similarities=alike[kept], views=candidates.views
    )


def _joined(found: list[Found]) -> Found:
    return Found(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _smaller_first(found: Found) -> Found:
    return found._replace(
        first=np.minimum(found.first, found.second),
        second=np.maximum(found.first, found.second),
        reversed=found.reversed ^ (found.first > found.second),
    )


def _best_of_each(found: Found) -> Found:
    """Each pair once, with its best similarity, the most similar first.

    Of views that are as good, or nearly, it is the first: what needs no crop is told as it is.
    """
    found = _take(found, np.lexsort((found.second, found.first)))
    begins = np.flatnonzero(_changes(found.first) | _changes(found.second))
    if not len(begins):
        return found
    best = np.maximum.reduceat(found.similarities, begins)
    sizes = np.diff(np.append(begins, len(found.first)))
    worse = found.similarities < np.repeat(best, sizes) - _AS_GOOD
    order = np.lexsort((found.views, ~found.exact, worse, found.second, found.first))
    found = _take(_take(found, order), begins)._replace(similarities=best)
    return _take(found, np.lexsort((found.second, found.first, -found.similarities)))


def _take(found: Found, which: np.ndarray) -> Found:
    return Found(*(column[which] for column in found))


def _with_copies(found: Found, own: _Side, other: _Side) -> Found:
    """Adds the pairs of images that equal a paired one of their side."""
    rows = [_rows_by_owner(side.owner) for side in (own, other)]
    places, pairs = [], []
    for k, (a, b) in enumerate(zip(found.first.tolist(), found.second.tolist(), strict=True)):
        more = _paired(rows[0][a], rows[1][b])
        pairs += more
        places += [k] * len(more)
    found = _take(found, np.array(places, np.int64))
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    return found._replace(first=first, second=second)


def _paired(rows: list[int], others: list[int]) -> list[tuple[int, int]]:
    """All with all; where these are too many, each with two, for one may be the very same file."""
    if len(rows) * len(others) <= _ALL_WITH_ALL:
        return list(itertools.product(rows, others))
    few = [*itertools.product(rows[:2], others), *itertools.product(rows, others[:2])]
    return list(dict.fromkeys(few))


def _rows_by_owner(owner: np.ndarray) -> dict[int, list[int]]:
    rows: dict[int, list[int]] = {}
    for row, one in enumerate(owner.tolist()):
        rows.setdefault(one, []).append(row)
    return rows


def _equal(own: _Side, other: _Side) -> Found:
    """Pairs across the sides with the same hash and picture, flat ones too."""
    rows = [(row, other.owners[x]) for x, row in own.owners.items() if x in other.owners]
    return _found(*np.array(rows, np.int64).reshape(-1, 2).T, exact=True)
