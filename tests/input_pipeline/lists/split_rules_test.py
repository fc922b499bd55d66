"""The rules of published lists: quotas filled exactly, parts apart, the same arrays everywhere."""

import hashlib

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from input_pipeline.lists.split_rules import generator_splits, permutation_splits
from input_pipeline.permutation import permutation
from input_pipeline.splits import LIST_PROTOCOLS, Splits, class_splits, hold_out
from tests.input_pipeline.annotations.raw_sets import random_bits

SEEDS = st.integers(0, 2**64 - 1)


def checksum(*parts: np.ndarray) -> str:
    return hashlib.sha256(b"".join(p.astype("<i8").tobytes() for p in parts)).hexdigest()[:16]


def parts(splits: Splits) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return splits.train, splits.query, splits.database


def by_the_book(labels: np.ndarray, order: list[int], quota: int, queries: int) -> list[list[int]]:
    """The generator as its description reads, image by image and label by label."""
    train, query = [], []
    used = {("train", c): 0 for c in range(labels.shape[1])}
    used |= {("query", c): 0 for c in range(labels.shape[1])}
    for row in order:
        for column in range(labels.shape[1]):
            if not labels[row, column]:
                continue
            if used["train", column] < quota:
                used["train", column] += 1
                train.append(row)
                break
            if used["query", column] < queries:
                used["query", column] += 1
                query.append(row)
                break
    return [train, query, [row for row in range(len(labels)) if row not in query]]


def test_generator_by_hand():
    # In the order of the visit: both labels, class 1, class 0, class 0, both, class 1, none.
    visited = [[1, 1], [0, 1], [1, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
    order = permutation(7, 5, 3)
    labels = np.zeros((7, 2), np.uint8)
    labels[order] = visited
    splits = generator_splits(labels, 5, train_per_class=1, query_per_class=1)
    # 0 fills class 0's training quota, 1 class 1's, 2 class 0's queries; 3 finds nothing left;
    # 4 passes class 0 by and fills class 1's queries.
    assert splits.train.tolist() == order[[0, 1]].tolist()
    assert splits.query.tolist() == order[[2, 4]].tolist()
    assert splits.database.tolist() == sorted(order[[0, 1, 3, 5, 6]])


@hypothesis.settings(deadline=None)
@hypothesis.given(
    columns=st.integers(1, 6), quota=st.integers(0, 5), queries=st.integers(0, 3), seed=SEEDS,
    key=st.integers(0, 99),
)  # fmt: skip
def test_generator_fills_every_quota_as_described(columns, quota, queries, seed, key):
    labels = random_bits(400, [30] * columns, key)
    splits = generator_splits(labels, seed, quota, queries)
    expected = by_the_book(labels, permutation(400, seed, 3).tolist(), quota, queries)
    assert [part.tolist() for part in parts(splits)] == expected
    assert (len(splits.train), len(splits.query)) == (columns * quota, columns * queries)
    assert all(part.dtype == np.int64 for part in parts(splits))
    assert not np.intersect1d(splits.train, splits.query).size
    assert np.isin(splits.train, splits.database).all()
    assert (np.bincount(np.concatenate([splits.query, splits.database]), minlength=400) == 1).all()
    assert (labels[splits.train].sum(0) >= quota).all()


@hypothesis.settings(deadline=None)
@hypothesis.given(seed=SEEDS, order=st.permutations(range(4)))
def test_where_images_have_one_label_the_order_of_classes_does_not_matter(seed, order):
    labels = np.eye(4, dtype=np.uint8)[permutation(200, 1) % 4]
    some, others = (generator_splits(x, seed, 5, 2) for x in (labels, labels[:, order]))
    for a, b in zip(parts(some), parts(others), strict=True):
        np.testing.assert_array_equal(a, b)


def test_generator_says_which_classes_lack_how_many():
    labels = np.repeat(np.eye(3, dtype=np.uint8), [7, 5, 2], axis=0)
    with pytest.raises(ValueError, match="14 images are too few") as caught:
        generator_splits(labels, 0, 5, 2, ["cat", "dog", "sea"])
    assert "dog lacks 0 training images and 2 queries; sea lacks 3 " in str(caught.value)
    assert "cat" not in str(caught.value)
    with pytest.raises(ValueError, match=r"class 2 lacks 3 training images and 2 queries"):
        generator_splits(labels, 0, 5, 2)
    with pytest.raises(ValueError, match="class 9 lacks.*; 2 classes more"):
        generator_splits(np.zeros((5, 12), np.uint8), 0, 5, 2)


def test_negative_quotas_are_refused():
    with pytest.raises(ValueError, match="0 or more, got -1 training images and 2 queries"):
        generator_splits(np.ones((5, 1), np.uint8), 0, -1, 2)


def test_a_set_of_nuswides_size_gives_the_published_sizes():
    labels = random_bits(195_834, [35, 20, *[6] * 19])
    splits = generator_splits(labels, 0)
    published = LIST_PROTOCOLS["nuswide_21"]
    assert tuple(len(part) for part in parts(splits)) == (
        published.num_train, published.num_query, published.num_database
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "n", "expected"),
    [("mirflickr", 25_000, "4b7e195000c37835"), ("voc2012", 11_540, "239099ebc6e36d87")],
)
def test_permutation_splits_have_the_published_sizes_and_order(name, n, expected):
    splits = permutation_splits(n, 0, 4_000, 1_000)
    published = LIST_PROTOCOLS[name]
    assert tuple(len(part) for part in parts(splits)) == (
        published.num_train, published.num_query, published.num_database
    )  # fmt: skip
    np.testing.assert_array_equal(np.concatenate(parts(splits)), permutation(n, 0, 4))
    assert checksum(*parts(splits)) == expected


@pytest.mark.parametrize(("seed", "expected"), [(0, "5b0cf88d4549af97"), (1, "8e6e2c7ad102d75f")])
def test_generator_splits_are_the_same_on_every_machine(seed, expected):
    splits = generator_splits(random_bits(3_000, [20] * 8), seed, 50, 10)
    assert checksum(*parts(splits)) == expected


@hypothesis.given(
    n=st.integers(0, 60), seed=SEEDS, data=st.data(),
    database=st.sampled_from(["rest", "train_and_rest", "train"]),
)  # fmt: skip
def test_permutation_splits_hold_the_database_rule(n, seed, data, database):
    num_train = data.draw(st.integers(0, n))
    num_query = data.draw(st.integers(0, n - num_train))
    splits = permutation_splits(n, seed, num_train, num_query, database)
    rest = permutation_splits(n, seed, num_train, num_query).database
    assert (len(splits.train), len(splits.query)) == (num_train, num_query)
    assert sorted(np.concatenate([splits.train, splits.query, rest])) == list(range(n))
    wanted = {"rest": [rest], "train_and_rest": [splits.train, rest], "train": [splits.train]}
    np.testing.assert_array_equal(splits.database, np.concatenate(wanted[database]))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((10, 0, 8, 3), "8 training images \\+ 3 queries cannot be drawn from 10"),
        ((10, 0, -1, 3), "cannot be drawn"),
        ((10, 0, 3, -1), "cannot be drawn"),
        ((10, 0, 3, 3, "all"), "'all'; accepted: 'rest'"),
        ((10, -1, 3, 3), "seeds"),
    ],
)
def test_permutation_splits_refuse_what_cannot_be(arguments, why):
    with pytest.raises(ValueError, match=why):
        permutation_splits(*arguments)


def test_every_rule_has_a_stream_of_its_own():
    n, seed = 40, 9
    one_class = np.ones((n, 1), np.uint8)
    orders = [
        generator_splits(one_class, seed, n, 0).train,
        permutation_splits(n, seed, n, 0).train,
        class_splits(np.zeros(n, np.int64), seed, 0, n, "train").train,
        permutation(n, seed),
    ]
    assert len({order.tobytes() for order in orders}) == 4
    held_out = hold_out(np.arange(n), 0.5, seed)[1]
    assert all(sorted(order[:20]) != held_out.tolist() for order in orders)
