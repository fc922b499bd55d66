"""The beginning of a run, of hashing and of pre-training alike."""

import json
from typing import Any

import pytest

from configs import digits
from hybridhash_jax.description import describe
from hybridhash_jax.experiment import create_experiment
from hybridhash_jax.image_sources import create_dataset
from hybridhash_jax.modes import unused_options
from hybridhash_jax.pretrained.errors import WeightFileError
from hybridhash_jax.run import start_run
from tests.pretrained.pretrained_files import small_network, write_run
from tests.runs.small_run import make_config

SIZES = ("image_size", "patch_size", "embed_dims", "num_heads", "depths", "token_heads")
CLASSIFY = {"task": "classify", "evaluation__selected_by": "validation"}


def start(config, workdir):
    plan = create_experiment(config, create_dataset(config))
    return start_run(plan, config, workdir)


def test_a_classifier_says_what_it_started_from_now_and_later(tmp_path):
    sizes = {name: make_config().model[name] for name in SIZES} | {"interaction": "none"}
    source = write_run(tmp_path / "source", {5: small_network(bits=12, seed=3, **sizes)}, **sizes)
    config = make_config(**CLASSIFY, init__weights=str(source))
    plan, _ = start(config, tmp_path / "run")
    assert plan.init_note.startswith(f"{source} (own run): 34 loaded")
    note = json.loads((tmp_path / "run" / "init.json").read_text())
    assert note["init_from"] == plan.init_note
    assert "head/kernel" in note["newly initialised"]
    (tmp_path / "run" / "checkpoints" / "3").mkdir(parents=True)
    config.init.weights = "gone"  # a run that goes on does not read it again
    assert start(config, tmp_path / "run")[0].init_note == plan.init_note


def test_a_file_that_does_not_fit_leaves_no_workdir(tmp_path):
    with pytest.raises(WeightFileError, match="cannot open the weight file"):
        start(make_config(**CLASSIFY, init__weights=str(tmp_path / "none")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


BATCH = {"loss.pairs": "batch"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"loss.batch_weight": 1.0, **BATCH}, "of the memory bank, which this run does not have"),
        ({"loss.unseen": "negative", **BATCH}, "of the memory bank, which this run does not have"),
        ({"loss.batch_weight": 1.0}, None),
        ({"loss.alpha": 0.1}, None),
        ({"dpsh.quantization": 0.1}, "an option of dpsh, and means nothing for hybridhash"),
        ({"comparison.trials": 3}, "an option of --mode=compare, and means nothing for"),
        ({"pretraining.mixup": 0.5}, "an option of task=classify, and means nothing for hybrid"),
        ({"task": "classify", "pretraining.mixup": 0.5}, None),
        ({"task": "classify", "loss.alpha": 1.0}, "means nothing for task=classify"),
        ({"method.name": "dpsh", "dpsh.batch_weight": 1.0}, None),
        ({"method.name": "dsh", "dsh.batch_weight": 1.0}, "which this run does not have"),
        ({"method.name": "unknown"}, None),
    ],
)
def test_fields_that_mean_nothing_in_a_run_are_told(fields: dict[str, Any], said: str | None):
    config = digits.get_config()
    config.update_from_flattened_dict(fields)
    found = list(unused_options(config, fields))
    assert [said is not None and said in sentence for sentence in found] == [True] * bool(said)


@pytest.mark.parametrize(
    ("fields", "shown", "hidden"),
    [
        ({"loss.pairs": "bank"}, "batch_weight 1.0", "None"),
        ({"loss.pairs": "bank", "loss.batch_weight": 0.5}, "batch_weight 0.5", "None"),
        (BATCH, "pairs batch", "batch_weight"),
    ],
)
def test_the_weight_beside_a_bank_is_shown_where_there_is_one(
    fields: dict[str, Any], shown: str, hidden: str
):
    config = make_config(**{name.replace(".", "__"): value for name, value in fields.items()})
    experiment = create_experiment(config, create_dataset(config))
    text = describe(experiment)
    experiment.close()
    assert shown in text
    assert hidden not in text
