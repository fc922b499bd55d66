"""Groups of near-duplicates, none of which is held together by a chain alone."""

from collections import defaultdict
from typing import NamedTuple

import numpy as np


class Groups(NamedTuple):
    """Who belongs together.

    Attributes:
      members: rows of each group; the first is a near-duplicate of all others. Largest first.
      of_pairs: int64 [P], the group that holds both rows of a pair; -1 where two groups do.
    """

    members: list[list[int]]
    of_pairs: np.ndarray


def make_groups(first: np.ndarray, second: np.ndarray, exact: np.ndarray) -> Groups:
    """Groups of the rows that pairs name.

    The row with most pairs founds a group of all rows that are paired with it; then that with most
    pairs among the rest, and so on. So a is never with c because both are like b, unless b founds
    their group. A row whose pairs all went to other groups is alone, and in no group.

    Args:
      first: int64 [P].
      second: int64 [P].
      exact: bool [P], whether the two are the same picture; those are never separated.
    """
    same = _copies(first[exact], second[exact])
    copies: dict[int, list[int]] = defaultdict(list)
    neighbours: dict[int, set[int]] = defaultdict(set)
    every: list[int] = np.unique(np.concatenate([first, second])).tolist()
    for row in every:
        copies[same.get(row, row)].append(row)
    pairs: list[tuple[int, int]] = list(zip(first.tolist(), second.tolist(), strict=True))
    for a, b in pairs:
        one, other = same.get(a, a), same.get(b, b)
        if one != other:
            neighbours[one].add(other)
            neighbours[other].add(one)
    members = []
    free = set(copies)
    for founder in sorted(copies, key=lambda row: (-len(neighbours[row]), row)):
        if founder in free:
            joined = [founder, *sorted(neighbours[founder] & free)]
            free -= set(joined)
            rows = [row for one in joined for row in copies[one]]
            members += [rows] if len(rows) > 1 else []
    members.sort(key=lambda rows: (-len(rows), rows[0]))
    place = {row: k for k, rows in enumerate(members) for row in rows}
    of_pairs = [place[a] if a in place and place[a] == place.get(b) else -1 for a, b in pairs]
    return Groups(members, np.array(of_pairs, np.int64))


def _copies(first: np.ndarray, second: np.ndarray) -> dict[int, int]:
    """From each row that has copies to the smallest of them."""
    found: dict[int, int] = {}

    def smallest(row: int) -> int:
        while found.get(row, row) != row:
            row = found[row]
        return row

    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        low, high = sorted((smallest(a), smallest(b)))
        found[high] = found[low] = low
    return {row: smallest(row) for row in found}
