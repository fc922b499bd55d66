"""MDSHC's centres: the bound, the authors' method of multipliers, and what it reaches."""

import json

import numpy as np
import pytest

from hybridhash_jax.methods.central import separation
from hybridhash_jax.methods.central.centres import (
    distance_score,
    hash_centres,
    least_distance,
    random_centres,
)
from tests.methods.central import golden


def test_the_bound_is_the_authors_table_in_whole_numbers():
    table = json.loads((golden.FOLDER / "MDSHC_min_distance.json").read_text())["table"]
    assert len(table) > 50
    for case, (distance, _) in table.items():
        bits, classes = map(int, case.split("_"))
        assert separation.gilbert_varshamov_distance(classes, bits) == distance


def test_moved_codes_equal_the_authors_iterations_sweep_after_sweep():
    stored = golden.load("MDSHC")
    codes, distance = stored["B0"].astype(np.int8), int(stored["dmax"])
    for sweep in range(len(stored["int_B"])):
        starts = [tuple(stored[f"int_y{n}"][sweep, row] for n in (1, 2, 3)) for row in range(6)]
        codes = separation.move_codes(codes, distance, np.arange(6), starts)
        np.testing.assert_array_equal(codes, stored["int_B"][sweep])
        least, mean, most, variance = stored["int_stats"][sweep]
        np.testing.assert_allclose(distance_score(codes), (least, mean, -variance), rtol=1e-9)
        assert most == (8 - codes.astype(int) @ codes.T.astype(int)).max() // 2


@pytest.mark.parametrize("case", ["random_48_10", "random_32_100"])
def test_random_codes_reach_the_bound_that_they_missed(case):
    codes = golden.load("CSQ")[case]
    distance = separation.gilbert_varshamov_distance(*codes.shape)
    assert least_distance(codes) < distance
    assert least_distance(separation.separate(codes, distance)) >= distance


@pytest.mark.parametrize(("classes", "bits"), [(10, 32), (100, 64), (10, 48)])
def test_codes_that_are_far_enough_stay(classes, bits):
    codes = hash_centres(classes, bits)
    distance = separation.gilbert_varshamov_distance(classes, bits)
    np.testing.assert_array_equal(separation.separate(codes, distance), codes)


def test_a_distance_out_of_reach_gives_codes_no_worse():
    codes = random_centres(6, 8)
    separated = separation.separate(codes, 8)
    assert distance_score(separated) >= distance_score(codes)
    assert set(np.unique(separated)) == {-1, 1}
