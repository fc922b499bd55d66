"""Starting from our own runs, whatever optimizer, bank and bits they had."""

import json
import logging
import shutil

import numpy as np
import pytest

from hybridhash_jax import pretrained
from hybridhash_jax.config_rules import check_config
from hybridhash_jax.experiment import create_experiment
from hybridhash_jax.pretrained import workdirs
from hybridhash_jax.pretrained.account import LEFT_OUT, LOADED, NEW
from hybridhash_jax.runtime.console import logger
from hybridhash_jax.workdir.checkpoints import flatten
from input_pipeline.datasets import load_dataset
from tests.pretrained.pretrained_files import assert_same, parameters, small_network, write_run
from tests.runs.small_run import make_config


@pytest.fixture(name="workdir", scope="module")
def fixture_workdir(tmp_path_factory):
    """Steps 10 (the best), 20 and 30, of networks with these seeds."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return write_run(folder, {step: small_network(seed=step) for step in (10, 20, 30)})


def load(path, **options):
    model = small_network(seed=1)
    return model, pretrained.load_pretrained(model, path, **options)


@pytest.mark.parametrize(
    ("checkpoint", "step"), [("latest", 30), ("selected", 10), ("20", 20), ("10", 10)]
)
def test_the_chosen_checkpoint_is_loaded(workdir, checkpoint, step):
    model, loaded = load(workdir, checkpoint=checkpoint)
    assert_same(model, small_network(seed=step))
    assert loaded.notes == (f"checkpoint of step {step} ({checkpoint})",)
    assert loaded.kind == "own run"


def test_a_run_that_does_not_say_which_evaluation_counts_has_the_default(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    config = json.loads(file.read_text())
    del config["evaluation"]
    file.write_text(json.dumps(config))
    _, loaded = load(tmp_path / "run", checkpoint="selected")
    assert loaded.notes == ("checkpoint of step 10 (selected)",)


def test_a_checkpoint_can_be_named_by_its_folder(workdir):
    model, loaded = load(workdir / "checkpoints" / "20")
    assert_same(model, small_network(seed=20))
    assert set(loaded.names(LOADED)) == set(parameters(model))


def test_the_training_state_is_left_out_by_name(workdir):
    _, loaded = load(workdir)
    assert set(loaded.names(LEFT_OUT)) == {
        "step",
        "opt_state/momentum",
        "bank/embeddings",
        "bank/seen",
    }


def test_another_code_length_draws_only_the_last_layer_anew(workdir):
    model = small_network(bits=16)
    loaded = pretrained.load_pretrained(model, workdir)
    assert set(loaded.names(NEW)) == {"hash_head/to_bits/kernel", "hash_head/to_bits/bias"}


def test_other_heads_and_options_than_the_run_s_are_noticed(tmp_path):
    run = write_run(tmp_path / "run", {1: small_network()}, gelu="tanh", num_heads=(2, 8))
    with pytest.raises(pretrained.IncompatibleWeightsError, match="8 heads, here there are 4"):
        load(run)
    run = write_run(tmp_path / "other", {1: small_network()}, gelu="tanh")
    _, loaded = load(run)
    note = 'these weights were trained with gelu="tanh"; this network has "exact"'
    assert note in loaded.notes


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ("11", r"no checkpoint .*11; there are: \[10, 20, 30\]"),
        ("newest", r"accepted: selected, latest, or one of \[10, 20, 30\]"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_refused_with_those_that_are(
    workdir, checkpoint, message
):
    with pytest.raises(pretrained.WeightFileError, match=message):
        load(workdir, checkpoint=checkpoint)


def test_a_selected_checkpoint_that_was_deleted_is_refused(workdir, tmp_path):
    run = shutil.copytree(workdir, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "10")
    with pytest.raises(
        pretrained.WeightFileError, match=r"no checkpoint .*10; there are: \[20, 30\]"
    ):
        load(run, checkpoint="selected")


@pytest.mark.parametrize("checkpoint", ["selected", "latest"])
def test_a_run_with_an_option_that_is_gone_still_gives_its_weights(workdir, tmp_path, checkpoint):
    run = shutil.copytree(workdir, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"data": {"decoder": "fast"}}))
    model, _ = load(run, checkpoint=checkpoint)
    assert_same(model, load(workdir, checkpoint=checkpoint)[0])


def test_a_damaged_checkpoint_is_refused_with_the_others(workdir, tmp_path):
    run = shutil.copytree(workdir, tmp_path / "run")
    state = run / "checkpoints" / "30" / "state"
    for path in state.rglob("d/*"):  # which of them holds the parameters is Orbax's affair
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 255
        path.write_bytes(data)
    with pytest.raises(pretrained.WeightFileError, match=r"30.*(damaged|cannot be read)"):
        load(run, checkpoint="latest")
    model, _ = load(run / "checkpoints" / "20")
    assert_same(model, small_network(seed=20))


def test_a_checkpoint_whose_arrays_are_no_longer_described_is_damaged(workdir, tmp_path):
    run = shutil.copytree(workdir, tmp_path / "run")
    for path in (run / "checkpoints" / "30" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(pretrained.WeightFileError) as error:
        load(run, checkpoint="latest")
    assert "30 is damaged" in str(error.value)
    assert "Other steps: [10, 20]; give one as WORKDIR/checkpoints/STEP" in str(error.value)


def test_arrays_that_do_not_match_their_fingerprint_are_refused(workdir, monkeypatch):
    restore = workdirs._restore

    def one_bit_off(where):
        arrays, others = restore(where)
        path = next(iter(arrays))
        arrays[path] = np.nextafter(arrays[path], np.float32(9))
        return arrays, others

    monkeypatch.setattr(workdirs, "_restore", one_bit_off)
    with pytest.raises(pretrained.WeightFileError, match="its arrays have changed"):
        load(workdir)


def test_a_run_without_its_configuration_or_checkpoints_is_refused(workdir, tmp_path):
    run = shutil.copytree(workdir, tmp_path / "run")
    (run / "config.json").unlink()
    with pytest.raises(pretrained.WeightFileError, match="config.json cannot be read"):
        load(run)
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").mkdir()
    with pytest.raises(pretrained.WeightFileError, match="no checkpoint.*train first"):
        load(run)


def test_an_experiment_starts_from_a_run_and_says_what_it_took(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logger, "propagate", True)
    run = tmp_path / "run"
    config = make_config(init__weights=str(run), optimizer__name="sgd")
    check_config(config)
    names = ("image_size", "patch_size", "embed_dims", "num_heads", "depths", "token_heads")
    old = small_network(seed=3, **{name: config.model[name] for name in names})
    write_run(run, {5: old}, **{name: config.model[name] for name in names})
    data = config.data
    dataset = load_dataset(data.name, data.protocol, source=data.source, split_seed=0)
    with caplog.at_level(logging.INFO, logger="hybridhash_jax"):
        experiment = create_experiment(config, dataset, 12)
        state, loaded = experiment.load_weights(experiment.create_state())
    assert loaded is not None
    assert set(loaded.names(NEW)) == {"hash_head/to_bits/kernel", "hash_head/to_bits/bias"}
    found = flatten(state.params)
    for path, array in parameters(old).items():
        if "to_bits" in path:
            assert array.shape != found[f"{path}/value"].shape
        else:
            np.testing.assert_array_equal(array, found[f"{path}/value"], err_msg=path)
    assert "hash_head/to_bits/* (2 arrays); 8 bits in the file, 12 here" in caplog.text
