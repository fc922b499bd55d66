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


def test_iterations_equal_the_authors():
    stored = golden.load("MDSHC")
    codes, start = stored["B0"], tuple(stored[f"y{n}"][0] for n in (1, 2, 3))
    steps = list(separation.iterations(codes[0], codes[1:], int(stored["dmax"]), start))
    assert len(steps) == stored["trace0_iters"]
    for number in range(len(stored["trace0_b"])):
        step = steps[number]
        ours = (step.penalty, step.b, step.cube, step.sphere, step.slack, *step.multipliers)
        for name, values in zip(
            ("rho", "b", "z1", "z2", "z3", "y1", "y2", "y3"), ours, strict=True
        ):
            np.testing.assert_allclose(
                values, stored[f"trace0_{name}"][number], rtol=1e-9, atol=1e-9
            )
    np.testing.assert_allclose(steps[-1].b, stored["trace0_final_b"], atol=1e-6)


def test_moved_codes_equal_the_authors_sweep_after_sweep():
    stored = golden.load("MDSHC")
    codes, distance = stored["B0"], int(stored["dmax"])
    other = []
    for sweep, after in enumerate(stored["int_B"]):
        for row in range(6):
            start = tuple(stored[f"int_y{n}"][sweep, row] for n in (1, 2, 3))
            others = np.delete(np.concatenate([after[:row], codes[row:]]), row, axis=0)
            moved = separation.move_code(codes[row], others, distance, start)
            if (moved != after[row]).any():
                other.append((sweep, row))
                # As good: as far from the others in the mean, and as far as asked for from each.
                assert (others @ moved).mean() == (others @ after[row]).mean()
                assert (others @ moved).max() <= 8 - 2 * distance
        codes = after
        least, mean, most, variance = stored["int_stats"][sweep]
        np.testing.assert_allclose(distance_score(codes), (least, mean, -variance), rtol=1e-9)
        assert most == (8 - codes @ codes.T).max() / 2
    # There, two codes are equally good, and the last digits of a run decide between them.
    assert set(other) <= {(0, 2)}


@pytest.mark.parametrize(
    "case", ["random_48_10", pytest.param("random_32_100", marks=pytest.mark.thorough)]
)
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
    codes = random_centres(3, 4)
    separated = separation.separate(codes, 4)
    assert distance_score(separated) >= distance_score(codes)
    assert set(np.unique(separated)) == {-1, 1}
