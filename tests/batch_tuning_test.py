"""The largest batch that fits is found, and a step that does not fit is never run."""

import dataclasses
import json
import types
from typing import Any, cast

import jax
import jax.numpy as jnp
import pytest

from hybridhash_jax import batch_tuning
from hybridhash_jax.batch_tuning import (
    Trial,
    largest_that_fits,
    limit_line,
    memory_limit,
    run_trial,
    tune_batch,
)
from hybridhash_jax.experiment import create_experiment
from hybridhash_jax.image_sources import create_dataset
from hybridhash_jax.runtime import console
from hybridhash_jax.workdir import names
from tests.distributed.process_pair import start_two, wait_for_two
from tests.runs.main_process import run_main
from tests.runs.small_run import CONFIG, flags, make_config


@pytest.mark.parametrize("unit", [1, 3, 8])
@pytest.mark.parametrize("limit", [0, 1, 5, 8, 23, 64, 100, 1000])
def test_the_largest_that_fits_is_found_to_an_eighth(unit, limit):
    tried = []

    def fits(size):
        tried.append(size)
        return size <= limit

    highest = 40 * unit
    found = largest_that_fits(fits, unit, highest)
    assert all(0 < size <= highest and size % unit == 0 for size in tried)
    assert len(tried) == len(set(tried)) <= 10
    exact = min(limit // unit * unit, highest)
    assert exact - max(unit, exact // 8) <= found <= exact
    assert (found == 0) == (exact == 0)


@pytest.fixture
def config():
    return make_config(model__depths=(1,), model__embed_dims=(8,), model__num_heads=(2,))


def test_where_memory_ends_larger_batches_are_tried_by_saving_it(config, tmp_path, monkeypatch):
    def trial(config, dataset, batch_size, remat, parts):  # an image takes 1 MiB, of 100
        mib = batch_size / parts * {"none": 1, "dots": 0.9, "layers": 0.5}[remat]
        return Trial(batch_size, remat, parts, mib, 7.0 + batch_size if mib <= 100 else None)

    monkeypatch.setattr(batch_tuning, "run_trial", trial)
    trials = tune_batch(config, tmp_path)
    sizes = [trial.batch_size for trial in trials]
    assert sizes[:5] == [8, 16, 32, 64, 128]
    kept = [trial.batch_size for trial in trials if trial.fits and trial.remat == "none"]
    assert 88 <= max(size for size in kept if size <= 100) <= 100
    saved = [(trial.remat, trial.accumulation_steps, trial.fits) for trial in trials[-4:]]
    assert saved == [("dots", 1, True), ("layers", 1, True), ("none", 2, True), ("layers", 4, True)]
    content = json.loads((tmp_path / names.TUNING).read_text())
    assert len(content["trials"]) == len(trials)
    assert "--config.batch_size=9" in content["best"]["largest"]
    assert "--config.model.remat=" in content["best"]["largest, saving memory"]


def test_a_trial_measures_memory_and_speed(config):
    trial = run_trial(config, create_dataset(config), 16, "none", 2)
    assert trial.fits
    assert trial.mib is not None and 0 < trial.mib < 1000
    assert trial.flags == (
        "--config.batch_size=16 --config.model.remat=none --config.accumulation_steps=2"
    )


def test_what_is_the_same_in_every_trial_is_not_told_in_each(config, capsys):
    console.set_up()
    config.optimizer.warmup_epochs = 50.0
    run_trial(config, create_dataset(config), 8, "none", 1)
    assert "warm-up" not in capsys.readouterr().out


def test_a_step_that_does_not_fit_is_explained(config, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_tuning, "memory_limit", lambda mesh: 0)
    monkeypatch.setattr(batch_tuning, "_FIRST", 1)
    with pytest.raises(ValueError, match="not even a batch of 1 fits; try --config.model.remat"):
        tune_batch(config, tmp_path)
    (trial,) = json.loads((tmp_path / names.TUNING).read_text())["trials"]
    assert trial["images_per_second"] is None
    assert trial["mib"] > 0


def test_a_method_that_trains_nothing_is_refused(tmp_path):
    config = make_config(method__name="itq")
    with pytest.raises(ValueError, match=r"method\.name=itq is fitted; give --config\.evaluation"):
        tune_batch(config, tmp_path)
    assert not list(tmp_path.iterdir())


def asks_for_too_much(state: Any, batch: Any, key: Any) -> Any:
    """A step for whose result no machine has the memory: 4 petabytes."""
    return state, jnp.full(2**50, batch["mask"].sum(dtype=jnp.float32))


def test_a_step_that_runs_out_of_memory_is_too_large_and_the_search_goes_on(
    config, tmp_path, monkeypatch
):
    def create(config, dataset):
        step = (
            asks_for_too_much if config.batch_size > 100 else lambda state, batch, key: (state, key)
        )
        return dataclasses.replace(create_experiment(config, dataset), train_step=jax.jit(step))

    monkeypatch.setattr(batch_tuning, "create_experiment", create)
    monkeypatch.setattr(batch_tuning, "memory_limit", lambda mesh: float("inf"))
    trials = tune_batch(config, tmp_path)
    assert [trial.batch_size for trial in trials[:5]] == [8, 16, 32, 64, 128]
    assert [trial.fits for trial in trials] == [trial.batch_size <= 100 for trial in trials]
    assert 88 <= max(trial.batch_size for trial in trials if trial.fits) <= 100
    best = json.loads((tmp_path / names.TUNING).read_text())["best"]
    assert "--config.batch_size=9" in best["largest"]


def test_another_error_of_a_step_is_no_lack_of_memory(config, monkeypatch):
    def fail(*_: Any) -> Any:
        raise jax.errors.JaxRuntimeError("INTERNAL: a fault")

    monkeypatch.setattr(batch_tuning, "planned_bytes", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="a fault"):
        run_trial(config, create_dataset(config), 8, "none", 1)


@pytest.mark.thorough
def test_the_mode_works_for_a_classifier_on_a_mesh_that_splits_parameters(tmp_path):
    options = flags(
        task="classify", num_devices=2, mesh__fsdp=2, accumulation_steps=31, batch_size=7,
        model__patch_size=4, model__embed_dims=(32,), model__num_heads=(2,), model__depths=(1,),
        evaluation__selected_by="last", optimizer__frozen="^head/",  # which hashing does not have
    )  # fmt: skip
    workdir = tmp_path / "w"
    done = run_main(CONFIG, "--mode=tune_batch", f"--workdir={workdir}", *options, devices=2)
    assert done.returncode == 0, done.stderr
    assert "% of what is free" in done.stdout
    assert "largest: --config.batch_size=992" in done.stdout
    content = json.loads((workdir / names.TUNING).read_text())
    assert [trial["batch_size"] for trial in content["trials"]] == [496, 992]
    assert all(trial["images_per_second"] > 0 for trial in content["trials"])


def test_several_processes_are_told_where_to_start_it(tmp_path):
    printed, codes = wait_for_two(start_two(tmp_path / "w", "--mode=tune_batch"))
    assert codes == [1, 1], printed
    for text in printed:
        assert "error: --mode=tune_batch runs in one process, and here are 2" in text
        assert "with --num_processes=1, for TPUs on a slice of one host" in text
        assert "Traceback" not in text
    assert not (tmp_path / "w").exists()


@dataclasses.dataclass(frozen=True)
class Gpu:
    """What the limit is read from."""

    platform: str = "gpu"

    def memory_stats(self) -> dict[str, int]:
        return {"bytes_limit": 1000 * 2**20}


def test_the_limit_of_a_device_that_does_not_say_is_unknown():
    """The host's memory is not its own."""
    device = types.SimpleNamespace(platform="gpu", memory_stats=lambda: None)
    mesh = cast(Any, types.SimpleNamespace(local_devices=[device]))
    assert memory_limit(mesh) == float("inf")
    assert limit_line(mesh).startswith("limit: unknown")


def test_the_limit_of_a_gpu_is_said_with_what_raises_it():
    line = limit_line(cast(Any, types.SimpleNamespace(local_devices=[Gpu()])))
    assert line.startswith("limit: 900 MiB a device, 90 % of what JAX may take: 75 % of a GPU")
    assert " XLA_CLIENT_MEM_FRACTION " in line
