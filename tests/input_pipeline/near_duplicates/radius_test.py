"""Pairs of hashes within a radius, against all distances computed one by one."""

import numpy as np
import pytest

from input_pipeline.near_duplicates import radius as module
from input_pipeline.near_duplicates.radius import pairs_within


def hashes(count: int, seed: int = 0) -> np.ndarray:
    """Half of them random, half of them a few bits from the others."""
    rng = np.random.default_rng(seed)
    random = rng.integers(0, 2**64, count // 2, np.uint64)
    near = random.copy()
    for _ in range(6):
        near ^= np.uint64(1) << rng.integers(0, 64, len(near)).astype(np.uint64)
    return np.concatenate([random, near])


def brute(first: np.ndarray, second: np.ndarray, radius: int) -> list[tuple[int, int, int]]:
    distances = np.bitwise_count(first[:, None] ^ second[None])
    rows, others = np.nonzero(distances <= radius)
    return [(int(a), int(b), int(distances[a, b])) for a, b in zip(rows, others, strict=True)]


def found(*arguments, **options) -> list[tuple[int, ...]]:
    return [
        tuple(map(int, pair)) for pair in zip(*pairs_within(*arguments, **options), strict=True)
    ]


# Radii that are searched in buckets, and some that are not.
@pytest.mark.parametrize("radius", [0, 1, 4, 6, 12, 20])
def test_all_pairs_within_the_radius_are_found_and_no_other(radius):
    first, second = hashes(1500), hashes(900, seed=1)
    second[:200] = first[:200]
    assert found(first, radius, second) == brute(first, second, radius)


@pytest.mark.parametrize("radius", [0, 4, 12])
def test_among_themselves_each_pair_is_given_once(radius):
    given = hashes(1500)
    given[7] = given[3]
    assert found(given, radius) == [
        pair for pair in brute(given, given, radius) if pair[0] < pair[1]
    ]


def test_skewed_hashes_are_found_too():
    # One part of their bits is the same for all, as in pictures of one kind.
    given = hashes(1500) | np.uint64(0xFFFFF)
    assert found(given, 4) == [pair for pair in brute(given, given, 4) if pair[0] < pair[1]]


def test_threads_change_nothing():
    given = hashes(20_000)
    assert found(given, 6, num_workers=1) == found(given, 6, num_workers=3)


def test_nothing_is_found_in_nothing():
    none = np.zeros(0, np.uint64)
    assert found(none, 4) == [] and found(none, 4, hashes(10)) == []


def test_too_many_pairs_are_refused(monkeypatch):
    monkeypatch.setattr(module, "MAX_PAIRS", 1000)
    with pytest.raises(ValueError, match="more than 1,000 pairs are within 3 bits"):
        pairs_within(np.zeros(200, np.uint64), 3)
