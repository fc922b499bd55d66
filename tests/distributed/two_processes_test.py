"""Two real processes over loopback work as one does, also where one of them is stopped or killed."""

import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from hybridhash_jax.codes.files import load_code_sets
from hybridhash_jax.run import train
from hybridhash_jax.workdir.checkpoints import committed_steps
from hybridhash_jax.workdir.log import read_log
from tests.distributed.process_pair import run_two, start_two, wait_for_two
from tests.runs.main_process import run_main, wait_until
from tests.runs.small_run import CONFIG, StopAt, flags, make_config, outcome

pytestmark = pytest.mark.slow

MEASURED = (
    "map", "chance", "radius_2", "queries_without_relevant", "curves", "code_health", "per_class",
    "worst_queries", "samples", "dataset",
)  # fmt: skip

ALONE = flags(
    num_epochs=6,  # 48 steps
    evaluation__before_training=False,
    evaluation__every_epochs=6,
    checkpoint__every_epochs=1,
    checkpoint__keep_latest=6,
)
TOGETHER = [option for option in ALONE if "num_devices" not in option]

# Measured: 0.4 s after the coordinator's death, 10 s after another's, of which it waits 10 for the
# others' last words. Who only misses heartbeats takes more than 60.
SECONDS_TO_END = 40.0


def training(workdir: Path) -> list[dict]:
    return [line for line in read_log(workdir) if line["kind"] == "train"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The workdir of a run by one process."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    done = run_main(CONFIG, f"--workdir={workdir}", *ALONE)
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.fixture(scope="module")
def begun_by_one(undisturbed, tmp_path_factory) -> Path:
    """The same workdir as it was when the one process had taken 8 steps."""
    workdir = tmp_path_factory.mktemp("begun") / "w"
    shutil.copytree(undisturbed, workdir)
    for step in committed_steps(workdir / "checkpoints")[1:]:
        shutil.rmtree(workdir / "checkpoints" / str(step))
    (workdir / "results.json").unlink()
    lines = [json.dumps(line) + "\n" for line in training(workdir) if line["step"] <= 8]
    (workdir / "metrics.jsonl").write_text("".join(lines))
    assert committed_steps(workdir / "checkpoints") == [8]
    return workdir


@pytest.fixture(scope="module")
def stopped(begun_by_one) -> tuple[Path, int]:
    """Two processes went on, and one of them got a SIGTERM; the workdir, and the step saved."""
    processes = start_two(begun_by_one, *TOGETHER)
    wait_until(lambda: len(training(begun_by_one)) > 4, *processes, timeout=300)
    processes[1].send_signal(signal.SIGTERM)
    printed, codes = wait_for_two(processes)
    assert codes == [143, 143], printed
    steps = [int(text.split("after step ")[1].split(";")[0]) for text in printed]
    assert steps[0] == steps[1]
    assert "resuming from step 8 of 48" in printed[0]
    return begun_by_one, steps[0]


def test_a_signal_to_one_of_two_saves_the_same_step_in_both(stopped):
    workdir, step = stopped
    assert step > 8
    assert step in committed_steps(workdir / "checkpoints")


@pytest.mark.thorough
@pytest.mark.parametrize(
    "victim", [pytest.param(1, id="the other"), pytest.param(0, id="the coordinator")]
)
def test_the_death_of_one_soon_ends_the_other_with_a_message(stopped, victim):
    workdir, _ = stopped
    log, saved = workdir / "metrics.jsonl", committed_steps(workdir / "checkpoints")[-1]
    before = log.stat().st_ino  # another file once the run goes on
    processes = start_two(workdir, *TOGETHER)
    wait_until(
        lambda: log.stat().st_ino != before and training(workdir)[-1]["step"] > saved,
        *processes,
        timeout=300,
    )
    processes[victim].kill()
    killed_at = time.monotonic()
    printed, codes = wait_for_two(processes)
    assert time.monotonic() - killed_at < SECONDS_TO_END
    assert codes[victim] == -signal.SIGKILL
    # JAX aborts the other unless it ends by itself first; a shell says 134 of both.
    assert codes[1 - victim] in (134, -signal.SIGABRT)
    assert "another process of" in printed[1 - victim]
    assert "Start the same command on every process again" in printed[1 - victim]
    assert not (workdir / "results.json").exists()


def test_after_deaths_the_run_goes_on_to_the_same_end(stopped, undisturbed):
    workdir, _ = stopped
    printed, written_by_second = run_two(workdir, *TOGETHER)
    assert "resuming from step" in printed[0]
    assert "2 process(es)" in printed[0]
    assert "epoch" not in printed[1]  # only the first process speaks
    assert written_by_second == {"checkpoints"}
    first, second = training(undisturbed), training(workdir)
    assert [line["step"] for line in first] == [line["step"] for line in second]
    # Up to step 8 the lines are the one process's. Measured from there on: at most 3e-7 apart for 16
    # steps; losses 2.4e-5 after 40, since every step begins with what rounding made of those before.
    own = [(a, b) for a, b in zip(first, second, strict=True) if a["step"] > 8]
    assert len(own) == 20
    for name in ("loss", "grad_norm"):
        early = [(a[name], b[name]) for a, b in own if a["step"] <= 24]
        np.testing.assert_allclose(*np.transpose(early), rtol=1e-5)
    np.testing.assert_allclose(*np.transpose([(a["loss"], b["loss"]) for a, b in own]), rtol=1e-3)
    alone, together = outcome(undisturbed), outcome(workdir)
    assert together["map_expected"] == pytest.approx(alone["map_expected"], abs=0.01)
    assert (together["queries"], together["database"]) == (200, 597)


def test_two_processes_measure_the_codes_and_metrics_of_one(undisturbed):
    alone = (
        json.loads((undisturbed / "report.json").read_text()),
        load_code_sets(str(undisturbed / "codes")),
    )
    printed, written_by_second = run_two(undisturbed, *TOGETHER, "--mode=evaluate")
    assert "2 process(es)" in printed[0]
    assert not written_by_second
    folder = undisturbed / "evaluation"
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


@pytest.mark.thorough
def test_two_processes_pretrain_as_one_with_half_of_the_parameters_each(tmp_path):
    options = {
        "task": "classify", "model__embed_dims": (32, 32), "num_epochs": 1, "model__drop_path_rate": 0.05,
        "evaluation__selected_by": "validation", "evaluation__before_training": False,
        "pretraining__mix_probability": 0.3, "pretraining__random_erasing": 0.0,
        "pretraining__augment_magnitude": 0.0, "pretraining__ema_decay": 0.8,
    }  # fmt: skip
    alone, together = tmp_path / "one", tmp_path / "two"
    train(make_config(**options), alone, StopAt())
    shared = [option for option in flags(**options) if "num_devices" not in option]
    printed, written_by_second = run_two(together, *shared, "--config.mesh.fsdp=2")
    assert "mesh data=1 x fsdp=2" in printed[0]
    assert written_by_second == {"checkpoints"}
    losses = [[line["loss"] for line in training(workdir)] for workdir in (alone, together)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    first, second = outcome(alone), outcome(together)
    assert second["top1"] == pytest.approx(first["top1"], abs=0.02)
    assert second["validation"] == first["validation"] == 200


@pytest.mark.thorough
def test_two_processes_learn_codes_of_the_database_as_one(tmp_path):
    options = {
        "method__name": "adsh", "num_epochs": 2, "evaluation__before_training": False,
        "evaluation__every_epochs": 2, "adsh__images": 256, "adsh__passes": 2,
    }  # fmt: skip
    alone, together = tmp_path / "one", tmp_path / "two"
    train(make_config(**options), alone, StopAt())
    shared = [option for option in flags(**options) if "num_devices" not in option]
    run_two(together, *shared)
    losses = [[line["loss"] for line in training(workdir)] for workdir in (alone, together)]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    first, second = outcome(alone), outcome(together)
    assert second["map_expected"] == pytest.approx(first["map_expected"], abs=0.02)
