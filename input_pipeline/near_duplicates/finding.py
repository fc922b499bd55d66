"""Near-duplicates among pictures: candidates by their hashes, verified by laying them over."""

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
RADIUS, SIMILARITY = 12, 0.82
_ROWS = 256  # pictures whose views are made at once
_PAIRS_AT_ONCE = 512  # that a thread verifies
_TRIED = 3  # views of a pair, those of the nearest hashes


@dataclass(frozen=True)
class Options:
    """What counts as nearly the same.

    Attributes:
      view: which views of an image are looked for: "plain", "dihedral" or "multi".
      radius: most bits in which the hashes of two candidates differ.
      similarity: least of `alignment.similarities`; 1 is the same content.
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
    """

    first: np.ndarray
    second: np.ndarray
    distances: np.ndarray
    similarities: np.ndarray
    views: np.ndarray
    reversed: np.ndarray


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
    others = first if second is None else second
    found = [_direction(first, others, views, options, second is None, False, progress)]
    if second is not None and len(views) > 1:
        found.append(_direction(second, first, views[1:], options, False, True, progress, 1))
    return _best_of_each(_joined(found), second is None)


def work(first: Pictures, second: Pictures | None = None) -> int:
    """How many images `near_duplicates` goes through."""
    return len(first) + (len(second) if second is not None else 0)


class _Candidates(NamedTuple):
    rows: np.ndarray
    others: np.ndarray
    distances: np.ndarray
    views: np.ndarray


def _direction(
    pictures: Pictures,
    others: Pictures,
    views: list[View],
    options: Options,
    same: bool,
    is_reversed: bool,
    progress: Callable[[int], object],
    first_view: int = 0,
) -> Found:
    """Looks for views of `pictures` among `others` as they are."""
    told = np.flatnonzero(~pictures.flat())
    among = np.flatnonzero(~others.flat())
    hashes = others.hashes[among]
    found = []
    rest = views
    if first_view == 0:  # the stored hashes are those of the first view
        rest = views[1:]
        if same:
            plain = pairs_within(hashes, options.radius, num_workers=options.num_workers)
        else:
            plain = pairs_within(
                pictures.hashes[told], options.radius, hashes, num_workers=options.num_workers
            )
        candidates = _Candidates(
            told[plain.first], among[plain.second], plain.distances, np.zeros_like(plain.first)
        )
        found.append(_verified(pictures, others, candidates, views, options, 0))
    for start in range(0, len(told), _ROWS):
        rows = told[start : start + _ROWS]
        if rest:
            of_views = view_hashes(pictures.small[rows], rest, pictures.shapes[rows])
            near = pairs_within(of_views.reshape(-1), options.radius, hashes, num_workers=options.num_workers)
            found.append(
                _verified(
                    pictures,
                    others,
                    _nearest_views(near, rows, among, len(rest), same),
                    rest,
                    options,
                    1,
                )
            )
        progress(len(rows))
    progress(len(pictures) - len(told))
    whole = _joined(found)
    if is_reversed:
        return whole._replace(
            first=whole.second, second=whole.first, reversed=np.ones(len(whole.first), bool)
        )
    return whole


def _nearest_views(
    near: Pairs, rows: np.ndarray, among: np.ndarray, count: int, same: bool
) -> _Candidates:
    """The few views of each pair of images whose hashes are nearest."""
    first, second = rows[near.first // count], among[near.second]
    views, distances = near.first % count, near.distances
    if same:
        other = first != second
        first, second, views, distances = (x[other] for x in (first, second, views, distances))
    order = np.lexsort((views, distances, second, first))
    first, second = first[order], second[order]
    starts = np.ones(len(first), bool)
    starts[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    places = np.arange(len(first)) - np.maximum.accumulate(
        np.where(starts, np.arange(len(first)), 0)
    )
    kept = places < _TRIED
    order = order[kept]
    return _Candidates(first[kept], second[kept], distances[order], views[order])


def _verified(
    pictures: Pictures,
    others: Pictures,
    candidates: _Candidates,
    views: list[View],
    options: Options,
    first_view: int,
) -> Found:
    pairs = np.column_stack([candidates.rows, candidates.others])
    parts = range(0, len(pairs), _PAIRS_AT_ONCE)

    def compare(start: int) -> np.ndarray:
        part = slice(start, start + _PAIRS_AT_ONCE)
        starts = np.empty((len(pairs[part]), 2, 3), np.float32)
        for view in np.unique(candidates.views[part]).tolist():
            of_view = candidates.views[part] == view
            shapes = pictures.shapes[candidates.rows[part][of_view]]
            starts[of_view] = matrices([views[view]], shapes)[:, 0]
        return similarities(pictures.small, others.small, pairs[part], starts)

    values = list(map_in_threads(compare, parts, options.num_workers))
    alike = np.concatenate(values) if values else np.zeros(0, np.float32)
    kept = alike >= options.similarity
    return Found(
        candidates.rows[kept],
        candidates.others[kept],
        candidates.distances[kept],
        alike[kept],
        candidates.views[kept] + first_view,
        np.zeros(int(kept.sum()), bool),
    )


def _joined(found: list[Found]) -> Found:
    return Found(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _best_of_each(found: Found, same: bool) -> Found:
    """The most similar of all views of a pair, once, with the smaller row first."""
    if same:
        turned = found.first > found.second
        found = found._replace(
            first=np.minimum(found.first, found.second),
            second=np.maximum(found.first, found.second),
            reversed=found.reversed | turned,
        )
    order = np.lexsort((found.views, -found.similarities, found.second, found.first))
    found = Found(*(column[order] for column in found))
    is_first = np.ones(len(found.first), bool)
    is_first[1:] = (np.diff(found.first) != 0) | (np.diff(found.second) != 0)
    found = Found(*(column[is_first] for column in found))
    order = np.lexsort((found.second, found.first, -found.similarities))
    return Found(*(column[order] for column in found))
