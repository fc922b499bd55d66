"""Two real processes over loopback train and evaluate as one does."""

import json
from pathlib import Path

import numpy as np
import pytest

from hybridhash_jax.code_sets import load_code_sets
from hybridhash_jax.interrupt import StopRequest
from hybridhash_jax.run import train
from hybridhash_jax.run_log import read_log
from tests.process_pair import run_two
from tests.small_run import flags, make_config, outcome, run_main

MEASURED = (
    "map", "chance", "radius_2", "queries_without_relevant", "curves", "code_health", "per_class",
    "worst_queries", "samples", "dataset",
)  # fmt: skip

pytestmark = pytest.mark.slow


class NeverStopped(StopRequest):
    """Leaves the signals to pytest."""

    def install(self):
        return self


OPTIONS = [option for option in flags(num_epochs=2) if "num_devices" not in option]


def losses(workdir: Path) -> list[float]:
    return [line["loss"] for line in read_log(workdir) if line["kind"] == "train"]


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    """The workdir of a run by one process."""
    workdir = tmp_path_factory.mktemp("one")
    done = run_main(workdir, *OPTIONS)
    assert done.returncode == 0, done.stderr
    return workdir


def test_two_processes_give_the_results_of_one(one, tmp_path):
    printed = run_two(tmp_path, *OPTIONS)
    assert "2 process(es)" in printed[0]
    assert "epoch" not in printed[1]  # only the first process speaks
    alone, together = outcome(one), outcome(tmp_path)
    np.testing.assert_allclose(losses(one)[:4], losses(tmp_path)[:4], rtol=1e-5)
    assert together["map_expected"] == pytest.approx(alone["map_expected"], abs=0.02)
    assert together["queries"] == 200
    assert together["database"] == 597


def test_two_processes_measure_the_codes_and_metrics_of_one(one):
    alone = json.loads((one / "report.json").read_text()), load_code_sets(str(one / "codes"))
    printed = run_two(one, *OPTIONS, "--mode=evaluate")
    assert "2 process(es)" in printed[0]
    folder = one / "evaluation"
    together = (
        json.loads((folder / "report.json").read_text()),
        load_code_sets(str(folder / "codes")),
    )
    for name in MEASURED:
        assert alone[0][name] == together[0][name], name
    for left, right in zip(alone[1], together[1], strict=True):
        np.testing.assert_array_equal(left.packed, right.packed)
        np.testing.assert_array_equal(left.rows, right.rows)
        assert left.fingerprint == right.fingerprint


def test_two_processes_pretrain_as_one_with_half_of_the_parameters_each(tmp_path):
    options = {
        "task": "classify", "model__embed_dims": (32, 32), "num_epochs": 1, "model__drop_path_rate": 0.05,
        "evaluation__selected_by": "validation", "evaluation__before_training": False,
        "pretraining__mix_probability": 0.3, "pretraining__random_erasing": 0.0,
        "pretraining__augment_magnitude": 0.0, "pretraining__ema_decay": 0.8,
    }  # fmt: skip
    alone, together = tmp_path / "one", tmp_path / "two"
    train(make_config(**options), alone, NeverStopped())
    shared = [option for option in flags(**options) if "num_devices" not in option]
    printed = run_two(together, *shared, "--config.mesh.fsdp=2")
    assert "mesh data=1 x fsdp=2" in printed[0]
    np.testing.assert_allclose(losses(alone), losses(together), rtol=1e-5)
    first, second = outcome(alone), outcome(together)
    assert second["top1"] == pytest.approx(first["top1"], abs=0.02)
    assert second["validation"] == first["validation"] == 200
