"""Permutations and splits: exact sizes, disjoint parts, and the same arrays everywhere."""

import hashlib

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from input_pipeline.permutation import permutation
from input_pipeline.splits import PROTOCOLS, Splits, class_splits, hold_out, protocol_splits

CIFAR_LIKE = np.arange(60_000) % 10
MNIST_LIKE = np.arange(70_000) % 10
SEEDS = st.integers(0, 2**64 - 1)


def draw(protocol: str, seed: int = 0, class_ids: np.ndarray = CIFAR_LIKE) -> Splits:
    return protocol_splits(PROTOCOLS[protocol], class_ids, seed, len(class_ids) - 10_000)


def checksum(rows: np.ndarray) -> str:
    return hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()[:16]


def philox_words(count: int, key: tuple[int, int], counter: tuple[int, int, int, int]) -> list[int]:
    """Philox4x64-10 written out from the paper, blocks numbered from counter + 1 as in NumPy."""
    mask, words = 2**64 - 1, []
    while len(words) < count:
        counter = (counter[0] + 1, *counter[1:])
        (a, b, c, d), (k, m) = counter, key
        for _ in range(10):
            high_a, low_a = divmod(a * 0xD2E7470EE14C6C93, 2**64)
            high_c, low_c = divmod(c * 0xCA5A826395121157, 2**64)
            a, b, c, d = high_c ^ b ^ k, low_c, high_a ^ d ^ m, low_a
            k, m = (k + 0x9E3779B97F4A7C15) & mask, (m + 0xBB67AE8584CAA73B) & mask
        words += [a, b, c, d]
    return words[:count]


@pytest.mark.parametrize(
    ("keys", "key", "counter"),
    [
        ((7,), (7, 0), (0, 0, 0, 1)),
        ((7, 3), (7, 3), (0, 0, 0, 2)),
        ((7, 3, 2**63), (7, 3), (0, 0, 2**63, 3)),
    ],
)
def test_permutation_sorts_the_words_of_the_published_philox(keys, key, counter):
    words = philox_words(50, key, counter)
    assert permutation(50, *keys).tolist() == sorted(range(50), key=words.__getitem__)


@hypothesis.given(n=st.integers(0, 300), key=st.lists(SEEDS, min_size=1, max_size=3))
def test_permutation_contains_every_position_once(n, key):
    order = permutation(n, *key)
    assert order.dtype == np.int64
    assert sorted(order) == list(range(n))


def test_permutations_differ_between_keys_and_key_lengths():
    keys = [(1,), (1, 0), (1, 0, 0), (0, 1), (0, 0, 1), (2,), (2**64 - 1,)]
    assert len({permutation(100, *key).tobytes() for key in keys}) == len(keys)


@pytest.mark.parametrize("bad", [(-1, 0), (5,), (5, -1), (5, 2**64), (5, 1, 2, 3, 4)])
def test_permutation_refuses_bad_arguments(bad):
    with pytest.raises(ValueError, match="permutation"):
        permutation(*bad)


@pytest.mark.parametrize(
    ("protocol", "train", "query", "database"),
    [
        ("cifar10", 5_000, 1_000, 54_000),
        ("cifar10-1", 5_000, 1_000, 59_000),
        ("cifar10-2", 50_000, 10_000, 50_000),
    ],
)
def test_cifar_protocols_have_the_published_sizes(protocol, train, query, database):
    splits = draw(protocol)
    assert (len(splits.train), len(splits.query), len(splits.database)) == (train, query, database)
    for rows in (splits.train, splits.query, splits.database):
        assert rows.dtype == np.int64
        assert len(np.unique(rows)) == len(rows)
        assert set(np.bincount(CIFAR_LIKE[rows])) == {len(rows) // 10}


@pytest.mark.parametrize("protocol", ["cifar10", "cifar10-1", "cifar10-2"])
def test_no_query_is_in_train_or_database(protocol):
    splits = draw(protocol)
    assert not np.intersect1d(splits.query, splits.train).size
    assert not np.intersect1d(splits.query, splits.database).size


def test_the_database_holds_the_training_images_as_the_protocol_says():
    assert not np.intersect1d(draw("cifar10").database, draw("cifar10").train).size
    listed_first = draw("cifar10-1")
    np.testing.assert_array_equal(listed_first.database[:5_000], listed_first.train)
    np.testing.assert_array_equal(listed_first.database[5_000:], draw("cifar10").database)
    np.testing.assert_array_equal(draw("cifar10-2").database, draw("cifar10-2").train)


@pytest.mark.parametrize(
    ("images", "protocol", "train"),
    [
        (MNIST_LIKE, "official", 60_000),
        (MNIST_LIKE, "official-10k", 10_000),
        (CIFAR_LIKE, "official", 50_000),
        (CIFAR_LIKE, "official-10k", 10_000),
    ],
)
def test_official_protocols_ask_with_the_published_test_images(images, protocol, train):
    splits, first_test = draw(protocol, 0, images), len(images) - 10_000
    assert splits.query.tolist() == list(range(first_test, len(images)))
    np.testing.assert_array_equal(splits.train, splits.database)
    assert splits.train.max() < first_test and len(np.unique(splits.train)) == train
    assert set(np.bincount(images[splits.train])) == {train // 10}


@pytest.mark.parametrize(("protocol", "database"), [("5k", 64_000), ("5k-1", 69_000)])
def test_mnist_has_splits_like_cifar_s(protocol, database):
    splits = draw(protocol, 0, MNIST_LIKE)
    assert (len(splits.train), len(splits.query)) == (5_000, 1_000)
    assert len(splits.database) == database
    assert not np.intersect1d(splits.query, splits.database).size
    assert not np.intersect1d(splits.query, splits.train).size


# Split files are not shipped: these figures are what makes a split repeatable elsewhere.
@pytest.mark.parametrize(
    ("protocol", "seed", "expected"),
    [
        ("cifar10", 0, ("5a8b0e23968597b0", "24ef57e7fc81d6aa", "1f947092825464f7")),
        ("cifar10-1", 0, ("5a8b0e23968597b0", "24ef57e7fc81d6aa", "d1f11a93a2da49dd")),
        ("cifar10-2", 0, ("bfaa8bc262b5fc8c", "d4ccab0f2b72d7be", "bfaa8bc262b5fc8c")),
        ("cifar10", 1, ("7d6545aa3fd95e27", "3ed1308c09742367", "117c06c9c433b48a")),
        ("official", 0, ("fe4e39bbf5e7508e", "8d294bd1e8418920", "fe4e39bbf5e7508e")),
        ("official-10k", 0, ("d4ccab0f2b72d7be", "8d294bd1e8418920", "d4ccab0f2b72d7be")),
        ("official-10k", 1, ("b6f1482b25cb69a4", "8d294bd1e8418920", "b6f1482b25cb69a4")),
        ("5k", 0, ("b2001aa5f51726e4", "bc3d5e90111db2bf", "c349e6a74b98e698")),
        ("5k-1", 0, ("b2001aa5f51726e4", "bc3d5e90111db2bf", "edf7b3882a352de2")),
    ],
)
def test_splits_are_the_same_on_every_machine(protocol, seed, expected):
    splits = draw(protocol, seed, CIFAR_LIKE if protocol.startswith("cifar") else MNIST_LIKE)
    assert tuple(checksum(r) for r in (splits.train, splits.query, splits.database)) == expected


@hypothesis.given(
    counts=st.lists(st.integers(3, 40), min_size=1, max_size=4), order=SEEDS, seed=SEEDS
)
def test_train_query_and_rest_share_out_every_image(counts, order, seed):
    class_ids = np.repeat(np.arange(len(counts)), counts)[permutation(sum(counts), order)]
    splits = class_splits(class_ids, seed, 1, 2, "rest")
    together = np.concatenate([splits.train, splits.query, splits.database])
    assert sorted(together) == list(range(len(class_ids)))


def test_a_class_with_too_few_images_is_named():
    class_ids = np.repeat([0, 1], [600, 599])
    with pytest.raises(ValueError, match=r"class 1 has 599 images.*= 600 a class"):
        draw("cifar10", 0, class_ids)


def test_an_unknown_database_rule_is_refused():
    with pytest.raises(ValueError, match="'all'.*accepted: 'rest'"):
        class_splits(np.zeros(3, np.int64), 0, 1, 1, "all")  # pyright: ignore[reportArgumentType]


@hypothesis.given(n=st.integers(2, 200), fraction=st.floats(0, 0.5), seed=SEEDS)
def test_hold_out_parts_rows_without_loss_and_in_order(n, fraction, seed):
    rows = np.arange(n)[::-1] * 7
    kept, held_out = hold_out(rows, fraction, seed)
    expected = max(1, round(fraction * n)) if fraction else 0
    assert len(held_out) == expected
    assert sorted([*kept, *held_out]) == sorted(rows)
    assert (np.diff(kept) < 0).all() and (np.diff(held_out) < 0).all()


def test_hold_out_depends_on_the_seed():
    rows = np.arange(1_000)
    first, again, other = (hold_out(rows, 0.1, seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("n", "fraction", "why"), [(10, 1.0, r"\[0, 1\)"), (10, -0.1, r"\[0, 1\)"), (1, 0.1, "none")]
)
def test_hold_out_refuses_fractions_that_leave_nothing(n, fraction, why):
    with pytest.raises(ValueError, match=why):
        hold_out(np.arange(n), fraction, 0)
