"""The largest batch that fits is found, and a step that does not fit is never run."""

import json

import pytest

from hybridhash_jax import batch_tuning
from hybridhash_jax.batch_tuning import Trial, largest_that_fits, run_trial, tune_batch
from hybridhash_jax.image_sources import create_dataset
from tests.small_run import make_config


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
    content = json.loads((tmp_path / batch_tuning.TUNING_FILE).read_text())
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


def test_a_step_that_does_not_fit_is_explained(config, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_tuning, "memory_limit", lambda mesh: 0)
    monkeypatch.setattr(batch_tuning, "_FIRST", 1)
    with pytest.raises(ValueError, match="not even a batch of 1 fits; try --config.model.remat"):
        tune_batch(config, tmp_path)
    (trial,) = json.loads((tmp_path / batch_tuning.TUNING_FILE).read_text())["trials"]
    assert trial["images_per_second"] is None
    assert trial["mib"] > 0
