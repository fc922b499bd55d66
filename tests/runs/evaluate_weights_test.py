"""Evaluating weights as they are, without a run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import pretrain_imagenet
from hybridhash_jax.config_fields import ConfigError
from hybridhash_jax.evaluation_run import evaluate
from hybridhash_jax.run import train
from hybridhash_jax.workdir.checkpoints import CheckpointError
from tests.input_pipeline.sets.class_folders_test import write
from tests.runs.small_run import OVERRIDES, StopAt, make_config

CLASSIFY: dict[str, Any] = {"task": "classify", "evaluation__selected_by": "validation"}

ITQ: dict[str, Any] = {"method__name": "itq"}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    """The workdir of a classifier of the ten digits."""
    workdir = tmp_path_factory.mktemp("classifier")
    train(make_config(**CLASSIFY, num_epochs=1, checkpoint__every_epochs=1), workdir, StopAt())
    return workdir


@pytest.fixture(scope="module")
def hashing(tmp_path_factory) -> Path:
    """The workdir of a run of 8 bits."""
    workdir = tmp_path_factory.mktemp("hashing")
    train(make_config(num_epochs=1, checkpoint__every_epochs=1), workdir, StopAt())
    return workdir


def entry_of(folder: Path) -> dict[str, Any]:
    (entry,) = json.loads((folder / "results.json").read_text())
    return entry


def test_a_classifier_s_weights_give_the_numbers_of_its_run(classifier, tmp_path):
    config = make_config(**CLASSIFY, init__weights=str(classifier))
    found = evaluate(config, tmp_path / "new")
    expected = entry_of(classifier)
    for name in ("top1", "top5", "loss", "validation", "parameters_fingerprint"):
        assert found[name] == expected[name], name
    assert (found["step"], found["epoch"], found["checkpoint"]) == (0, 0, None)
    assert found["init_from"].startswith(f"{classifier} (own run)")
    assert entry_of(tmp_path / "new" / "evaluation") == found
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["evaluation"]


@pytest.mark.slow
def test_weights_that_hash_give_the_codes_of_their_run(hashing, tmp_path):
    config = make_config(init__weights=str(hashing))
    found = evaluate(config, tmp_path / "new", output=tmp_path / "out")
    assert found["map_expected"] == entry_of(hashing)["map_expected"]
    assert found["parameters_fingerprint"] == entry_of(hashing)["parameters_fingerprint"]
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"results.json", "report.json", "codes"} <= files
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["codes"]["source"] == f"the weights {found['init_from']}"
    ours, theirs = (
        np.load(folder / "codes" / "query.npz")["codes"] for folder in (tmp_path / "out", hashing)
    )
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.thorough
def test_a_fitted_method_gives_the_head_that_the_weights_lack(classifier, tmp_path):
    own = ITQ | {"init__weights": str(classifier), "model__interaction": "none"}
    config = make_config(**own, features__dir=str(tmp_path / "features"))
    found = evaluate(config, tmp_path / "new")
    (entry,) = train(config, tmp_path / "run", StopAt())
    assert found["map_expected"] == entry["map_expected"] > 0.12
    assert found["step"] == 0


@pytest.mark.thorough
def test_a_head_that_is_not_in_the_file_is_not_evaluated(classifier, hashing, tmp_path):
    def refuses(message: str, **own: Any) -> None:
        with pytest.raises(ValueError, match=message):
            evaluate(make_config(**own), tmp_path / "new")
        assert not (tmp_path / "new").exists()

    # Plain NesT lacks the global branches as well; the head is what is told.
    refuses("the hash head is not in the file.*method.name=itq", init__weights=str(classifier))
    refuses("8 bits in the file, 12 here", init__weights=str(hashing), bits=(12,))
    # All but the head: a fitted method brings that.
    refuses("5 parameters are not in the file .*random", init__weights=str(classifier), **ITQ)
    refuses("give the one code length", init__weights=str(hashing), bits=(8, 12))


def folder_config(folder: Path, weights: Path, **own: Any) -> Any:
    """The configuration of ImageNet, with the network of the small runs."""
    config = pretrain_imagenet.get_config()
    model = {name: value for name, value in OVERRIDES.items() if name.startswith("model.")}
    # A pattern of another network, which is nothing to an evaluation.
    model["optimizer.weight_decay_exclude"] = ("^blocks/",)
    model |= {"num_devices": 1, "model.variant": "demo_16px", "evaluation.report": False}
    model |= {"data.dir": str(folder), "data.resize": 8, "init.weights": str(weights)}
    config.update_from_flattened_dict(model | own)
    return config.lock()


TEN = {f"val__c{i}": 2 for i in range(10)}


@pytest.mark.thorough
def test_a_folder_of_validation_images_alone_is_evaluated(classifier, tmp_path):
    write(tmp_path / "photos", **TEN)
    found = evaluate(folder_config(tmp_path / "photos", classifier), tmp_path / "new")
    assert found["validation"] == 20
    assert 0 <= found["top1"] <= found["top5"] <= 1
    # With training images beside them the numbers are the same.
    train_part = {f"train__c{i}": 1 for i in range(10)}
    write(tmp_path / "both", **TEN, **train_part)
    again = evaluate(folder_config(tmp_path / "both", classifier), tmp_path / "again")
    assert [again[name] for name in ("top1", "loss")] == [found[name] for name in ("top1", "loss")]


def test_another_number_of_classes_is_told(classifier, tmp_path):
    write(tmp_path / "photos", val__ant=1, val__bee=2)
    with pytest.raises(ValueError, match=r"the head does not fit \(10 classes .*, 2 here"):
        evaluate(folder_config(tmp_path / "photos", classifier), tmp_path / "new")


def test_validation_images_alone_are_not_trained_on(tmp_path):
    write(tmp_path / "photos", val__ant=1, val__bee=2)
    config = folder_config(tmp_path / "photos", tmp_path)
    with pytest.raises(ValueError, match="the train split .* has no images"):
        train(config, tmp_path / "run", StopAt())


def test_without_weights_the_possibility_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"train first.*--config.init.weights=WEIGHTS"):
        evaluate(make_config(), tmp_path / "new")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        evaluate(make_config(init__weights="x.pth"), tmp_path / "new", "latest")


def test_a_workdir_of_another_configuration_is_refused(classifier, tmp_path):
    with pytest.raises(ConfigError, match="holds a run with another configuration"):
        evaluate(make_config(init__weights="x.pth"), classifier)
    assert not (tmp_path / "new").exists()
