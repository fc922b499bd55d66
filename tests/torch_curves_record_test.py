"""The records of training beside PyTorch bear out what docs/parity.md says of them."""

import json

import numpy as np
import pytest

from tests.runs.small_run import ROOT

RECORDS = {
    name: json.loads(
        (ROOT / "benchmarks" / "results" / f"torch_curves_{name}_epyc.json").read_text()
    )
    for name in ("batch", "bank")
}


def drift(run, one, other, steps):
    """Largest relative difference of the first losses."""
    a, b = (np.asarray(run[name]["loss"][:steps]) for name in (one, other))
    return float((np.abs(a - b) / b).max())


@pytest.mark.parametrize("name", RECORDS)
def test_both_programs_begin_with_the_same_loss_and_take_the_same_first_steps(name):
    for run in RECORDS[name]["runs"]:
        assert len(run["jax"]["loss"]) == len(run["torch"]["loss"]) == 200
        assert drift(run, "jax", "torch", 1) < 1e-6
        assert drift(run, "jax", "torch", 10) < 1e-5


@pytest.mark.parametrize("name", RECORDS)
def test_our_weights_give_the_same_map_in_pytorch(name):
    for run in RECORDS[name]["runs"]:
        reverse = run["reverse"]
        assert abs(reverse["map_stable"]["jax"] - reverse["map_stable"]["torch"]) < 1e-6
        assert reverse["map_stable"]["jax"] == run["jax"]["map"]["stable"]


def test_the_page_has_the_figures_of_the_records():
    text = (ROOT / "docs" / "parity.md").read_text()
    for record in RECORDS.values():
        run = record["runs"][0]
        for steps in (10, 200):
            value = drift(run, "jax", "torch", steps)
            assert any(
                shown in text for shown in (f"{value:.1e}".replace("e-0", "e-"), f"{value:.2f}")
            )
        for way in ("jax", "torch", "torch_noisy"):
            assert f"{run[way]['map']['expected']:.4f}".removeprefix("0") in text
