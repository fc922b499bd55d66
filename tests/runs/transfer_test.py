"""Fine-tuning from a workdir: what is loaded, how fast each part learns, and going on with it."""

import json
import re
import shutil

import numpy as np
import pytest

from hybridhash_jax.evaluation_run import evaluate_checkpoint
from hybridhash_jax.pretrained.workdirs import read_run
from hybridhash_jax.run import train
from hybridhash_jax.runtime import console
from hybridhash_jax.runtime.interrupt import Interrupted
from tests.pretrained.pretrained_files import parameters, small_network, write_run
from tests.runs.run_test import StopAt
from tests.runs.small_run import make_config, outcome

SIZES = ("image_size", "patch_size", "embed_dims", "num_heads", "depths", "token_heads")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", name="source")
def fixture_source(tmp_path_factory):
    """A workdir to start from, and its network of 12 bits."""
    sizes = {name: make_config().model[name] for name in SIZES}
    network = small_network(bits=12, seed=3, **sizes)
    return write_run(tmp_path_factory.mktemp("source") / "run", {5: network}, **sizes), network


def config_from(source):
    return make_config(
        init__weights=str(source),
        num_epochs=2,
        optimizer__warmup_epochs=0.5,
        optimizer__frozen=("^patch_embed/", "^levels/0/"),
        optimizer__learning_rate_factors=("^hash_head=1", ".=0.1"),
    )


@pytest.fixture(scope="module", name="finished")
def fixture_finished(source, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("transfer") / "run"
    train(config_from(source[0]), workdir, StopAt())
    return workdir


def test_frozen_levels_are_those_of_the_file_and_the_rest_has_learned(source, finished):
    before, after = parameters(source[1]), read_run(finished).arrays
    for path, array in after.items():
        if "to_bits" not in path:  # 12 bits there, 8 here
            frozen = path.startswith(("patch_embed/", "levels/0/"))
            assert np.array_equal(before[path], array) == frozen, path


def test_a_small_factor_moves_parameters_less(source, finished):
    """AdamW's first steps have about one size for all parameters."""
    before, after = parameters(source[1]), read_run(finished).arrays

    def moved(prefix):
        paths = [path for path in after if path.startswith(prefix) and "to_bits" not in path]
        return np.median(np.concatenate([np.ravel(abs(after[p] - before[p])) for p in paths]))

    assert moved("levels/1/") < 0.3 * moved("hash_head/")


def test_the_rate_rises_over_the_warmup(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    rates = [x["learning_rate"] for x in lines if x["kind"] == "train"]
    # Logged after every second step, of which the odd one was taken. The half epoch that was asked
    # for is a quarter of this run; a tenth of it is two steps.
    assert rates[:4] == pytest.approx([0.001, 0.002, 0.002, 0.002], rel=1e-5)


@pytest.mark.thorough
def test_a_stopped_run_goes_on_without_the_file_to_the_same_end(source, finished, tmp_path, capsys):
    copy = shutil.copytree(source[0], tmp_path / "source")
    config, workdir = config_from(copy), tmp_path / "run"
    with pytest.raises(Interrupted):
        train(config, workdir, StopAt(5))
    shutil.rmtree(copy)
    console.set_up()
    train(config, workdir, StopAt())
    found, expected = outcome(workdir), outcome(finished)
    started = json.loads((workdir / "init.json").read_text())
    assert found.pop("init_from") == started["init_from"]
    assert expected.pop("init_from") != started["init_from"]  # the path of the copy
    assert found == expected
    assert f"parameters start from: {started['init_from']}" in capsys.readouterr().out


def test_the_results_say_what_was_loaded(source, finished, capsys):
    (entry,) = json.loads((finished / "results.json").read_text())
    count = len(parameters(source[1])) - 2
    assert entry["init_from"] == (
        f"{source[0]} (own run): {count} loaded, 0 transformed, 2 newly initialised, 4 left out"
    )
    started = json.loads((finished / "init.json").read_text())
    assert started["newly initialised"] == ["hash_head/to_bits/bias", "hash_head/to_bits/kernel"]
    assert started["notes"] == ["checkpoint of step 5 (selected)"]
    console.set_up()
    train(config_from(source[0]), finished, StopAt())
    printed = capsys.readouterr().out
    assert f"parameters start from: {entry['init_from']}" in printed
    assert "rates times ^hash_head=1, .=0.1; frozen: ^patch_embed/, ^levels/0/" in printed
    evaluate_checkpoint(config_from(source[0]), finished, "latest")
    printed = capsys.readouterr().out
    assert re.search(rf"parameters: checkpoint \d+ \(latest\) of {finished}\n", printed)
    assert "start from" not in printed  # an evaluation starts from nothing


def test_without_its_note_a_run_still_names_the_file(source, finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "run")
    for content in (None, "{", "[]"):
        if content is None:
            (workdir / "init.json").unlink()
        else:
            (workdir / "init.json").write_text(content)
        train(config_from(source[0]), workdir, StopAt())
        (entry,) = json.loads((workdir / "results.json").read_text())
        assert entry["init_from"] == str(source[0])
