"""Mean average precision against golden values, brute force and hand-computed numbers."""

import itertools
import json
import math
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridhash_jax import metrics

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
TIES = ("expected", "stable")


def simple_precision(relevant_in_order: np.ndarray, top_k: int) -> float:
    """AP@k by its definition, place by place."""
    found, total = 0, 0.0
    for place, relevant in enumerate(relevant_in_order[:top_k], start=1):
        if relevant:
            found += 1
            total += found / place
    return total / found if found else 0.0


def ranked(distance: np.ndarray, tie_breaker: np.ndarray) -> np.ndarray:
    return np.lexsort((tie_breaker, distance))


@st.composite
def rankings(draw, most=40):
    """One query (all +1), a database with random codes and class ids, and a cut-off."""
    bits = draw(st.integers(1, 6))
    size = draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    database = rng.integers(0, 2, (size, bits)) * 2 - 1
    labels = rng.integers(0, draw(st.integers(1, 4)), size)
    return np.ones((1, bits)), np.array([0]), database, labels, draw(st.integers(1, size))


@pytest.mark.parametrize("name", ["map_single", "map_multi"])
@pytest.mark.parametrize(("ties", "entry"), [("stable", "map"), ("expected", "map_expected")])
def test_golden_values_are_met_at_every_cut_off(name, ties, entry):
    data = np.load(GOLDEN / f"{name}.npz")
    golden = json.loads(str(data[f"{entry}_json"]))
    assert len(golden) >= 2
    for cut, value in golden.items():
        got = metrics.mean_average_precision(
            data["q_codes"],
            data["q_labels"],
            data["db_codes"],
            data["db_labels"],
            None if cut == "None" else int(cut),
            ties,
        )
        assert got == pytest.approx(value, abs=1e-9)


def test_stable_precision_of_a_hand_written_ranking():
    # Distances 0, 1, 1, 2; relevant, not, relevant, relevant: (1/1 + 2/3 + 3/4) / 3.
    database = [[1, 1], [1, -1], [-1, 1], [-1, -1]]
    got = metrics.average_precisions([[1, 1]], [7], database, [7, 3, 7, 7], ties="stable")
    np.testing.assert_allclose(got, [(1 + 2 / 3 + 3 / 4) / 3], rtol=1e-15)


def test_expected_precision_of_a_hand_written_tie():
    # One relevant and one other item at the same distance: first 1/1, or second 1/2.
    got = metrics.average_precisions([[1]], [0], [[1], [1]], [0, 1])
    np.testing.assert_allclose(got, [0.75], rtol=1e-15)
    # At k = 1 the relevant item is found half of the time, and then with precision 1.
    got = metrics.average_precisions([[1]], [0], [[1], [1]], [0, 1], top_k=1)
    np.testing.assert_allclose(got, [0.5], rtol=1e-15)


def test_the_denominator_is_what_was_found_in_the_first_k():
    database, labels = [[1, 1], [1, -1], [-1, -1]], [0, 1, 0]
    for ties in TIES:
        assert metrics.average_precisions([[1, 1]], [0], database, labels, 2, ties)[0] == 1.0


@settings(max_examples=60)
@given(rankings(most=6))
def test_expected_is_the_average_over_all_database_orders(case):
    query, query_labels, database, labels, top_k = case
    distance = (database != 1).sum(axis=1)
    orders = [
        simple_precision((labels == 0)[ranked(distance, np.array(order))], top_k)
        for order in itertools.permutations(range(len(labels)))
    ]
    got = metrics.average_precisions(query, query_labels, database, labels, top_k)
    assert got[0] == pytest.approx(math.fsum(orders) / len(orders), abs=1e-13)


@given(rankings())
def test_stable_breaks_ties_by_database_row(case):
    query, query_labels, database, labels, top_k = case
    order = ranked((database != 1).sum(axis=1), np.arange(len(labels)))
    got = metrics.average_precisions(query, query_labels, database, labels, top_k, "stable")
    assert got[0] == pytest.approx(simple_precision((labels == 0)[order], top_k), abs=1e-14)


@given(rankings())
def test_permuting_the_database_leaves_expected_unchanged(case):
    query, query_labels, database, labels, top_k = case
    order = np.random.default_rng(len(labels)).permutation(len(labels))
    before = metrics.average_precisions(query, query_labels, database, labels, top_k)
    after = metrics.average_precisions(query, query_labels, database[order], labels[order], top_k)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-12)


@given(rankings())
def test_both_tie_rules_lie_between_relevant_first_and_relevant_last(case):
    query, query_labels, database, labels, _ = case
    relevant, distance = labels == 0, (database != 1).sum(axis=1)
    best = simple_precision(relevant[ranked(distance, ~relevant)], len(labels))
    worst = simple_precision(relevant[ranked(distance, relevant)], len(labels))
    for ties in TIES:
        got = metrics.average_precisions(query, query_labels, database, labels, None, ties)[0]
        assert worst - 1e-12 <= got <= best + 1e-12


@given(rankings())
def test_a_cut_off_at_or_above_the_database_size_ranks_everything(case):
    query, query_labels, database, labels, _ = case
    for ties in TIES:
        whole = metrics.average_precisions(query, query_labels, database, labels, None, ties)
        for top_k in (len(labels), len(labels) + 7):
            cut = metrics.average_precisions(query, query_labels, database, labels, top_k, ties)
            np.testing.assert_array_equal(cut, whole)


def test_expected_at_a_cut_agrees_with_many_random_orders():
    rng = np.random.default_rng(3)
    database = rng.integers(0, 2, (400, 3)) * 2 - 1
    labels = rng.integers(0, 5, 400)
    distance = (database != 1).sum(axis=1)
    sampled = [
        simple_precision((labels == 0)[ranked(distance, rng.permutation(400))], 150)
        for _ in range(3000)
    ]
    got = metrics.average_precisions(np.ones((1, 3)), [0], database, labels, 150)[0]
    error = np.std(sampled) / math.sqrt(len(sampled))
    assert abs(got - np.mean(sampled)) < 4 * error


def test_a_large_cut_group_keeps_its_precision():
    # All codes are equal: the first k of a random order, whose expected AP exact fractions give.
    size, relevant, top_k = 3000, 1000, 1500
    expected = 0.0
    inverse = math.fsum(1 / place for place in range(1, top_k + 1))
    for found in range(1, relevant + 1):
        ways = math.comb(relevant, found) * math.comb(size - relevant, top_k - found)
        slope = (found - 1) / (top_k - 1)
        inner = inverse + slope * (top_k - inverse)
        expected += ways / math.comb(size, top_k) * inner / top_k
    labels = np.repeat([0, 1], [relevant, size - relevant])
    got = metrics.average_precisions([[1]], [0], np.ones((size, 1)), labels, top_k)[0]
    assert got == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("classes", [3, 17, 90])
def test_class_ids_and_one_hot_labels_give_the_same_result(ties, classes):
    rng = np.random.default_rng(classes)
    queries, database = rng.integers(0, 2, (5, 12)), rng.integers(0, 2, (80, 12))
    query_ids, database_ids = rng.integers(0, classes, 5), rng.integers(0, classes, 80)
    one_hot = np.eye(classes, dtype=np.float32)
    by_id = metrics.average_precisions(queries, query_ids, database, database_ids, 30, ties)
    by_row = metrics.average_precisions(
        queries, one_hot[query_ids], database, one_hot[database_ids], 30, ties
    )
    np.testing.assert_array_equal(by_id, by_row)


def test_one_shared_label_of_many_makes_an_item_relevant():
    queries = np.zeros((1, 80), bool)
    queries[0, [2, 70]] = True
    database = np.zeros((3, 80), bool)
    database[0, 5] = database[1, 70] = database[2, [2, 3]] = True
    got = metrics.average_precisions([[1, 1]], queries, [[1, 1], [1, -1], [-1, -1]], database)
    np.testing.assert_allclose(got, [(1 / 2 + 2 / 3) / 2], rtol=1e-15)


@pytest.mark.parametrize("bits", [127, 128, 255, 256, 300])
def test_long_codes_do_not_overflow(bits):
    database = np.ones((4, bits))
    database[1], database[2, : bits // 2], database[3, :1] = -1, -1, -1
    # Order by distance: 0, 3, 2, 1; relevant are the nearest and the farthest.
    for ties in TIES:
        got = metrics.average_precisions(
            np.ones((1, bits)), [0], database, [0, 0, 1, 1], None, ties
        )
        np.testing.assert_allclose(got, [(1 + 2 / 4) / 2], rtol=1e-15)


@pytest.mark.parametrize("ties", TIES)
def test_a_query_with_nothing_relevant_counts_zero_in_the_mean(ties):
    labels = [4, 4]
    got = metrics.average_precisions([[1], [1]], [4, 5], [[1], [-1]], labels, None, ties)
    np.testing.assert_array_equal(got, [1.0, 0.0])
    value = metrics.mean_average_precision([[1], [1]], [4, 5], [[1], [-1]], labels, None, ties)
    assert isinstance(value, float) and value == 0.5


def test_code_statistics_of_hand_written_codes():
    got = metrics.code_statistics([[1, 1, -1], [1, -1, -1], [1, 1, -1], [1, 1, -1]])
    np.testing.assert_array_equal(got.bit_balance, [1.0, 0.5, -1.0])
    assert got.bit_balance.dtype == np.float64
    assert (got.constant_bits, got.distinct_codes, got.largest_share) == (2, 2, 0.75)


@pytest.mark.parametrize("bits", [5, 64, 65, 200])
def test_distinct_codes_are_counted_at_any_length(bits):
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 2, (7, bits))
    kinds[1] = kinds[0]
    kinds[1, -1] ^= 1
    rows = kinds[rng.integers(0, 7, 300)]
    _, counts = np.unique(rows, axis=0, return_counts=True)
    got = metrics.code_statistics(rows)
    assert got.distinct_codes == len(counts)
    assert got.largest_share == counts.max() / 300


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_labels": [0]}, "query_codes has 2 rows and query_labels has 1"),
        ({"database_labels": [0, 1]}, "database_codes has 3 rows and database_labels has 2"),
        ({"query_codes": np.ones((2, 5))}, "query_codes has 5 bits and database_codes has 4"),
        ({"query_codes": np.ones((0, 4)), "query_labels": np.ones(0, int)}, "query_codes is empty"),
        (
            {"database_codes": np.ones((0, 4)), "database_labels": np.ones(0, int)},
            "database_codes is empty",
        ),
        ({"top_k": 0}, "top_k must be 1 or more.*None.*got 0"),
        ({"top_k": -1}, "got -1"),
        ({"ties": "average"}, '"expected", "stable".*got \'average\''),
        ({"query_codes": np.full((2, 4), 0.5)}, "query_codes must hold only.*binarize"),
        ({"database_codes": [[-1, 0, 1, 1]] * 3}, "database_codes must hold only"),
        ({"query_labels": [[0, 1], [1, 0]]}, "do not match"),
        ({"query_labels": [0.0, 1.0]}, "query_labels must be multi-hot"),
        ({"query_labels": [[0, 2], [1, 0]]}, "query_labels must be multi-hot"),
    ],
)
def test_arguments_that_make_no_ranking_are_refused(change, message):
    arguments = {
        "query_codes": np.ones((2, 4)),
        "query_labels": [0, 1],
        "database_codes": np.ones((3, 4)),
        "database_labels": [0, 1, 1],
    }
    with pytest.raises(ValueError, match=message):
        metrics.mean_average_precision(**(arguments | change))


def test_statistics_of_no_codes_are_refused():
    with pytest.raises(ValueError, match="codes is empty"):
        metrics.code_statistics(np.ones((0, 4)))
