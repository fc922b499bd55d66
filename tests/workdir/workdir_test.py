"""Reading back what a workdir says about its run. (What it refuses: run_test.)"""

import json

import pytest
from hybridhash_jax.workdir.contents import config_of_length, folder_of_length, load_config

from configs import default
from hybridhash_jax.config_rules import ConfigError, check_config, to_json
from tests.runs.small_run import make_config


def test_a_saved_configuration_comes_back_with_its_tuples(tmp_path):
    config = make_config(bits=(8, 16))
    (tmp_path / "config.json").write_text(to_json(config))
    found = load_config(tmp_path)
    assert found.to_dict() == config.to_dict()
    assert found.bits == (8, 16)


def test_fields_that_came_later_have_their_defaults(tmp_path):
    values = json.loads(to_json(make_config()))
    del values["evaluation"]["report"], values["checkpoint"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    found = load_config(tmp_path)
    assert found.evaluation.report is True
    assert found.checkpoint.to_dict() == default.get_config().checkpoint.to_dict()
    assert found.model.embed_dims == (16, 16)
    check_config(found)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="needs a workdir that --mode=train"):
        load_config(tmp_path)


def test_one_length_has_the_workdir_and_several_a_folder_each(tmp_path):
    config = make_config(bits=(8, 16))
    assert folder_of_length(config, 16, tmp_path) == tmp_path / "16bits"
    own = config_of_length(config, 16)
    assert own.bits == (16,)
    assert folder_of_length(own, 16, tmp_path) == tmp_path
