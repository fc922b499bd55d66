"""Impossible values are refused all at once, with what is accepted."""

import importlib
import json
from pathlib import Path

import pytest

import configs
from configs import cifar10, cifar10_features, default, digits
from hybridhash_jax.config_fields import ConfigError, flat_fields, to_json
from hybridhash_jax.config_rules import MAY_CHANGE, check_config
from hybridhash_jax.configured import checked_run, create_method, with_recipe
from hybridhash_jax.methods import METHODS
from hybridhash_jax.methods.bank_pairs import BankMethod
from hybridhash_jax.workdir.config import check_same_run, load_config

SHIPPED = [path.stem for path in Path(configs.__path__[0]).glob("*.py")]


@pytest.mark.parametrize("name", sorted({*SHIPPED} - {"__init__", "recipes"}))
def test_the_shipped_configurations_are_possible(name):
    check_config(importlib.import_module(f"configs.{name}").get_config())


def test_cifar10_is_the_published_recipe():
    fields = dict(flat_fields(cifar10.get_config()))
    published = {
        "model.variant": "paper", "batch_size": 64, "num_epochs": 15, "optimizer.name": "rmsprop",
        "optimizer.learning_rate": 2.5e-5, "optimizer.weight_decay": 1e-5,
        "optimizer.schedule": "constant", "optimizer.weight_decay_exclude": (),
        "loss.alpha": 0.5, "loss.pairs": "bank", "data.horizontal_flip": False,
        "data.crop_padding": 0, "model.gelu": "exact", "model.pool_padding": "symmetric",
        "evaluation.every_epochs": 3,
    }  # fmt: skip
    assert published.items() <= fields.items()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model.variant", "resnet", "accepted: paper, nest_base"),
        ("loss.pairs", "all", "accepted: bank, batch"),
        ("loss.alpha", -0.5, "give a number above 0, such as 0.5, or NUMBER/bits"),
        ("loss.alpha", float("nan"), "give a number above 0"),
        ("loss.alpha", float("inf"), "give a number above 0"),
        ("loss.alpha", True, "give a number above 0"),
        ("loss.alpha", None, "give a number above 0"),
        ("loss.alpha", (6, 4), "give a number above 0"),
        ("loss.alpha", "half", "give a number above 0"),
        ("loss.alpha", "0.5", "give a number above 0"),
        ("loss.alpha", "6.4/bit", "such as 6.4/bits"),
        ("loss.alpha", "6.4 / bits", "such as 6.4/bits"),
        ("loss.alpha", "6.4/bits/2", "such as 6.4/bits"),
        ("loss.alpha", "0/bits", "such as 6.4/bits"),
        ("loss.alpha", "/bits", "such as 6.4/bits"),
        ("itq.iterations", 0, "at least 1"),
        ("itq.rows", 0, "at least 1"),
        ("bits", None, "different code lengths"),
        ("optimizer.name", "lamb", "accepted: rmsprop, adam, adamw, sgd"),
        ("evaluation.selected_by", "test", "accepted: query, last, validation"),
        ("data.name", "cifar100", "accepted: cifar10, digits"),
        ("model.dtype", "float16", "accepted: auto, float32, bfloat16"),
        ("batch_size", 0, "at least 1"),
        ("accumulation_steps", 0, "at least 1"),
        ("model.remat", "all", "accepted: none, layers, dots"),
        ("optimizer.learning_rate", -1.0, "above 0"),
        ("optimizer.learning_rate", float("nan"), "finite and above 0"),
        ("loss.batch_weight", float("inf"), "finite and at least 0"),
        ("optimizer.momentum", 1.0, "below 1"),
        ("optimizer.learning_rate_factors", ("levels/0",), "accepted: PATTERN=FACTOR"),
        ("optimizer.learning_rate_factors", ("levels/0=0",), "a factor above 0"),
        ("optimizer.learning_rate_factors", (0.1,), "accepted: PATTERN=FACTOR"),
        ("num_epochs", -3, "at least 1"),
        ("mesh.data", 0, "at least 1"),
        ("mesh.fsdp", -1, "at least 1"),
        ("bits", (), "different code lengths"),
        ("bits", (32, 32), "different code lengths"),
        ("bits", ("long",), "different code lengths"),
        ("bits", (0,), "different code lengths"),
        ("bits", (True,), "different code lengths"),
        ("comparison.seeds", (True,), "give one whole number or several"),
        ("comparison.rates", (True,), "give different learning rates"),
        ("optimizer.step_epochs", ("8",), "give numbers of epochs above 0"),
        ("optimizer.step_epochs", (0, 8), "give numbers of epochs above 0"),
        ("evaluation.validation_fraction", 1.0, "above 0 and below 1"),
        ("checkpoint.keep_latest", 0, "at least 1"),
        ("task", "cluster", "accepted: hash, classify"),
        ("pretraining.label_smoothing", 1.0, "below 1"),
        ("pretraining.mixup", -0.1, "at least 0"),
        ("pretraining.mix_probability", 1.5, "at most 1"),
        ("pretraining.augment_magnitude", 11.0, "at most 10"),
        ("pretraining.ema_decay", 1.0, "below 1"),
    ],
)
def test_an_impossible_value_is_refused_with_what_is_accepted(field, value, message):
    config = digits.get_config()
    with config.ignore_type():
        config.update_from_flattened_dict({field: value})
    with pytest.raises(ConfigError, match=message) as error:
        check_config(config)
    assert field in str(error.value)


@pytest.mark.parametrize("alpha", [0.5, 1, 1e-3, "6.4/bits", "1e1/bits"])
def test_alpha_is_a_number_or_falls_with_the_code_length(alpha):
    config = digits.get_config()
    config.loss.alpha = alpha
    check_config(config)


def test_a_run_with_the_alpha_of_before_goes_on(tmp_path):
    config = digits.get_config()
    config.loss.alpha = 0.5
    (tmp_path / "config.json").write_text(to_json(config))
    check_same_run(load_config(tmp_path), tmp_path, MAY_CHANGE)
    config.loss.alpha = "6.4/bits"
    with pytest.raises(ConfigError, match="loss.alpha: 0.5 there, '6.4/bits' here"):
        check_same_run(config, tmp_path, MAY_CHANGE)
    (tmp_path / "config.json").write_text(to_json(config))
    check_same_run(load_config(tmp_path), tmp_path, MAY_CHANGE)


def test_options_of_a_fitted_method_matter_to_it_alone(tmp_path):
    config = digits.get_config()
    for method in ("pca", "itq"):
        config.method.name, config.itq.iterations = method, 50
        (tmp_path / "config.json").write_text(to_json(config))
        config.itq.iterations = 20
        if method == "pca":
            check_same_run(config, tmp_path, MAY_CHANGE)
    with pytest.raises(ConfigError, match="itq.iterations: 50 there, 20 here"):
        check_same_run(config, tmp_path, MAY_CHANGE)


@pytest.mark.parametrize(
    ("fields", "least"),
    [
        ({"loss.pairs": "batch"}, 2),
        ({"loss.pairs": "bank"}, 1),
        ({"method.name": "dsh"}, 2),
        ({"method.name": "dsh", "dsh.variant": "deephash"}, 1),
        ({"method.name": "dtsh"}, 2),
        ({"method.name": "dtsh", "dtsh.variant": "official"}, 1),
        ({"method.name": "dnnh"}, 3),
        ({"method.name": "hashnet"}, 2),
        ({"method.name": "dch"}, 2),
        ({"method.name": "orthohash"}, 2),
        ({"method.name": "mdshc"}, 2),
        ({"method.name": "csq"}, 1),
        ({"method.name": "itq"}, 1),
        ({"task": "classify", "evaluation.selected_by": "last"}, 1),
    ],
)
def test_a_batch_that_nothing_is_learned_from_is_refused(fields, least):
    config = digits.get_config()
    config.update_from_flattened_dict(fields | {"batch_size": least, "num_devices": 1})
    checked_run(config)
    if least > 1:
        config.batch_size = least - 1
        checked_run(config, trains=False)
        with pytest.raises(ConfigError, match=f"give --config.batch_size={least} or more"):
            checked_run(config)


def test_a_part_of_one_image_is_too_little_for_batch_norm_and_enough_for_pairs():
    config = digits.get_config()
    config.batch_size, config.accumulation_steps, config.loss.pairs = 4, 4, "batch"
    config.num_devices = 1
    checked_run(config)
    config.method.name = "orthohash"
    with pytest.raises(ConfigError, match="accumulation_steps=4 parts .*batch_size=8 or more"):
        checked_run(config)


def test_a_method_of_hashing_is_refused_where_classes_are_learned():
    config = digits.get_config()
    config.task, config.evaluation.selected_by, config.method.name = "classify", "last", "csq"
    with pytest.raises(ConfigError, match="method.name='csq' learns codes and task=classify"):
        check_config(config)


def test_all_impossible_values_are_named_in_one_message():
    config = digits.get_config()
    config.batch_size = 0
    config.loss.alpha = 0.0
    with pytest.raises(ConfigError, match=r"(?s)batch_size=0.*loss.alpha=0.0"):
        check_config(config)


def test_a_difference_that_matters_is_named_and_others_are_allowed(tmp_path):
    config = digits.get_config()
    path = tmp_path / "config.json"
    path.write_text(to_json(config))
    config.data.dir = "/elsewhere"
    config.log_every_steps = 1
    check_same_run(config, tmp_path, MAY_CHANGE)
    config.model.gelu = "tanh"
    config.model.embed_dims = (8, 8, 8)
    with pytest.raises(ConfigError, match=r"(?s)embed_dims: None there.*gelu: 'exact' there") as e:
        check_same_run(config, tmp_path, MAY_CHANGE)
    assert "data.dir" not in str(e.value)


def test_a_field_that_came_later_counts_as_its_default(tmp_path):
    config = digits.get_config()
    path = tmp_path / "config.json"
    saved = json.loads(to_json(config))
    del saved["task"], saved["pretraining"]
    path.write_text(json.dumps(saved))
    check_same_run(config, tmp_path, MAY_CHANGE)
    config.task = "classify"
    with pytest.raises(ConfigError, match="task: 'hash' there, 'classify' here"):
        check_same_run(config, tmp_path, MAY_CHANGE)


def test_a_run_goes_on_with_other_devices(tmp_path):
    config = digits.get_config()
    path = tmp_path / "config.json"
    saved = json.loads(to_json(config))
    del saved["mesh"]  # of a run from before there was one
    saved["evaluation"]["metrics_on"] = "host"  # and which was told this, which is gone
    path.write_text(json.dumps(saved))
    config.num_devices, config.mesh.data, config.mesh.fsdp = 8, 4, 2
    check_same_run(config, tmp_path, MAY_CHANGE)


def test_only_classifiers_mind_what_pre_training_is_told(tmp_path):
    path = tmp_path / "config.json"
    for task in ("hash", "classify"):
        config = digits.get_config()
        config.task = task
        path.write_text(to_json(config))
        config.pretraining.mixup = 0.1
        if task == "hash":
            check_same_run(config, tmp_path, MAY_CHANGE)
            continue
        with pytest.raises(ConfigError, match="pretraining.mixup: 0.8 there, 0.1 here"):
            check_same_run(config, tmp_path, MAY_CHANGE)


def test_a_saved_configuration_that_is_broken_is_not_overwritten(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"seed": 0})[:5])
    with pytest.raises(ConfigError, match="cannot be read"):
        check_same_run(digits.get_config(), tmp_path, MAY_CHANGE)


def test_a_field_that_came_later_counts_as_saved_at_its_default(tmp_path):
    config = digits.get_config()
    saved = json.loads(to_json(config))
    del saved["optimizer"]["frozen"], saved["optimizer"]["learning_rate_factors"]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(saved))
    check_same_run(config, tmp_path, MAY_CHANGE)
    config.optimizer.frozen = ("^levels/0/",)
    with pytest.raises(ConfigError, match=r"optimizer.frozen: \[\] there, \['\^levels/0/'\] here"):
        check_same_run(config, tmp_path, MAY_CHANGE)


@pytest.mark.parametrize(
    ("fields", "asks"),
    [
        ({"loss.pairs": "bank"}, "loss.batch_weight: 0.0 there, None here"),
        ({"loss.pairs": "bank", "init.weights": "file.pth"}, None),
        ({"method.name": "dpsh"}, "dpsh.batch_weight: 0.0 there"),
        ({"method.name": "dsh", "dsh.variant": "deephash"}, "dsh.batch_weight: 0.0 there"),
        ({"method.name": "dsh"}, None),
        ({"loss.pairs": "batch"}, None),
    ],
)
def test_a_run_from_before_the_batch_s_own_pairs_goes_on_without_them(tmp_path, fields, asks):
    config = digits.get_config()
    config.update_from_flattened_dict(fields)
    saved = json.loads(to_json(config))
    for group in ("loss", "dpsh", "dsh"):
        del saved[group]["batch_weight"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    own = load_config(tmp_path)
    if asks or config.init.weights:
        method = create_method(own)
        assert isinstance(method, BankMethod) and method.weight_of_batch == 0
    check_same_run(own, tmp_path, MAY_CHANGE)
    if asks is None:
        check_same_run(config, tmp_path, MAY_CHANGE)
        return
    with pytest.raises(ConfigError, match=asks):
        check_same_run(config, tmp_path, MAY_CHANGE)


def test_a_recipe_fills_in_what_no_flag_gives():
    config = cifar10_features.get_config()
    config.method.name = "csq"
    filled = with_recipe(config, {"batch_size"})
    assert (filled.optimizer.learning_rate, filled.method.recipe) == (3e-4, None)
    assert config.optimizer.learning_rate == 3e-3, "it is a copy"
    given = with_recipe(config, {"optimizer.learning_rate"})
    assert given.optimizer.learning_rate == 3e-3
    config.method.recipe = "published"
    published = with_recipe(config, {"batch_size"})
    assert (published.optimizer.name, published.batch_size) == ("adam", config.batch_size)


@pytest.mark.parametrize("base", [cifar10_features, digits])
@pytest.mark.parametrize("name", [x for x in METHODS if "published" in METHODS[x].recipes])
def test_a_published_recipe_is_the_same_on_every_configuration(base, name):
    """What one warms up, clips or leaves without decay for its own recipe is not the authors'."""
    found, plain = [], default.get_config()
    for config in (base.get_config(), plain):
        config.method.name, config.method.recipe = name, "published"
        found.append(with_recipe(config).optimizer.to_dict())
    for optimizer in found:
        # Used by other optimizers or schedules than this recipe's.
        for field in ("frozen", "step_epochs", "step_factor"):
            if field == "frozen" or optimizer["schedule"] != "step":
                del optimizer[field]
    assert found[0] == found[1]
    kept = base.get_config()
    kept.method.name, kept.method.recipe = name, "published"
    assert with_recipe(kept, {"optimizer.warmup_epochs"}).optimizer.warmup_epochs == (
        kept.optimizer.warmup_epochs
    )


@pytest.mark.parametrize(
    ("name", "recipe", "why"),
    [
        ("csq", "publised", "method.recipe='publised'; accepted: published, features"),
        ("pca", "published", "method.name=pca has no recipe 'published'; these have: .*csq"),
    ],
)
def test_a_recipe_that_is_not_there_is_refused(name, recipe, why):
    config = default.get_config()
    config.method.name, config.method.recipe = name, recipe
    with pytest.raises(ConfigError, match=why):
        with_recipe(config)


def test_every_recipe_fits_its_configuration():
    for name, method in METHODS.items():
        for recipe in method.recipes:
            config = default.get_config()
            config.method.name, config.method.recipe = name, recipe
            check_config(with_recipe(config))
