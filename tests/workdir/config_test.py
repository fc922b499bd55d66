"""Reading back what a workdir says about its run. (What it refuses: run_test.)"""

import json
import sys

import pytest
from absl import flags
from ml_collections import config_flags

from configs import default, lists
from hybridhash_jax.config_fields import ConfigError, flat_fields, to_json
from hybridhash_jax.config_rules import MAY_CHANGE, check_config
from hybridhash_jax.workdir import saved_config
from hybridhash_jax.workdir.config import (
    check_same_run,
    config_of_length,
    folder_of_length,
    load_config,
    save_config,
)
from tests.runs.small_run import ROOT, make_config


def test_a_saved_configuration_comes_back_with_its_tuples(tmp_path):
    config = make_config(bits=(8, 16))
    (tmp_path / "config.json").write_text(to_json(config))
    found = load_config(tmp_path)
    assert found.to_dict() == config.to_dict()
    assert found.bits == (8, 16)


@pytest.mark.parametrize("content", ['{"bits": 5, "data": 3}', '{"data": {}, "evaluation": [1]}'])
def test_a_group_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=r"config\.json is no configuration of this program"):
        load_config(tmp_path)


def test_fields_that_came_later_have_their_defaults(tmp_path):
    values = json.loads(to_json(make_config()))
    del values["evaluation"]["report"], values["checkpoint"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    found = load_config(tmp_path)
    assert found.evaluation.report is True
    assert found.checkpoint.to_dict() == default.get_config().checkpoint.to_dict()
    assert found.model.embed_dims == (16, 16)
    check_config(found)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("evaluation.top_k=5", 5),  # saved as null
        ("data.lists=here", "here"),
        ("model.mlp_ratio=2.5", 2.5),
        ("loss.alpha=0.25", 0.25),
        ("loss.alpha=6.4/bits", "6.4/bits"),
        ("bits=16,32", (16, 32)),
    ],
)
@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
def test_a_flag_sets_any_field_also_of_a_saved_run(tmp_path, monkeypatch, saved, flag, value):
    (tmp_path / "config.json").write_text(to_json(make_config()))
    place = f"{saved_config.__file__}:{tmp_path}" if saved else "configs/default.py"
    arguments = ["main.py", f"--config={place}", f"--config.{flag}"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.chdir(ROOT)
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    values(arguments)
    assert dict(flat_fields(values.config))[flag.partition("=")[0]] == value


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="Give a workdir that --mode=train wrote"):
        load_config(tmp_path)


def test_one_length_has_the_workdir_and_several_a_folder_each(tmp_path):
    config = make_config(bits=(8, 16))
    assert folder_of_length(config, 16, tmp_path) == tmp_path / "16bits"
    own = config_of_length(config, 16)
    assert own.bits == (16,)
    assert folder_of_length(own, 16, tmp_path) == tmp_path


def earlier_config(**fields):
    """What the version before wrote: init.from, no method, and two fields that are gone."""
    values = json.loads(to_json(make_config()))
    values["init"]["from"] = values["init"].pop("weights")
    del values["method"], values["csq"]
    values["data"]["decoder"], values["evaluation"]["metrics_on"] = "exact", "device"
    for name, value in fields.items():
        group, field = name.split("__")
        values[group][field] = value
    return json.dumps(values)


def test_a_run_of_an_earlier_version_goes_on(tmp_path):
    (tmp_path / "config.json").write_text(earlier_config(init__from="weights.pth"))
    found = load_config(tmp_path)
    assert found.init.weights == "weights.pth"
    assert found.method.name == "hybridhash"
    check_config(found)
    check_same_run(make_config(init__weights="weights.pth"), tmp_path, MAY_CHANGE)
    with pytest.raises(ConfigError, match="init.weights: 'weights.pth' there, None here"):
        check_same_run(make_config(), tmp_path, MAY_CHANGE)


def test_a_choice_that_is_gone_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(earlier_config(data__decoder="fast"))
    with pytest.raises(ConfigError, match="data.decoder='fast', which this version no longer has"):
        load_config(tmp_path)


def test_a_field_that_has_no_effect_hides_none_whose_name_begins_like_it(tmp_path):
    """A folder's `data.database` means nothing for lists; `data.database_list` does."""
    config = lists.get_config()
    save_config(tmp_path, config)
    config.data.database = "train"
    check_same_run(config, tmp_path, ())
    config.data.database_list = "another.txt"
    with pytest.raises(ConfigError, match="data.database_list: 'database.txt' there"):
        check_same_run(config, tmp_path, ())
