"""Which runs there are, and what is left out before anything trains."""

import json

import numpy as np
import pytest

from hybridhash_jax.comparison import cells
from hybridhash_jax.comparison.plan import Cell, Run, folder_of, make_plan
from hybridhash_jax.config_rules import check_config, compared_methods
from hybridhash_jax.image_sources import create_dataset
from hybridhash_jax.methods import METHODS
from hybridhash_jax.methods.hybridhash import HybridHash
from hybridhash_jax.workdir.config import save_config
from tests.comparison.small_comparison import make_shared, write_vectors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("vectors")
    write_vectors(place)
    return place


def plan_of(folder, **overrides):
    shared = make_shared(folder, **overrides)
    return make_plan(shared, create_dataset(shared.config))


def test_every_method_has_every_length_with_every_seed(folder):
    plan = plan_of(folder)
    assert plan.cells[:2] == (Cell("hybridhash", 8), Cell("hybridhash", 16))
    assert len(plan.runs) == len(set(plan.runs)) == 2 * len(plan.cells)
    assert {run.seed for run in plan.runs[: len(plan.cells)]} == {0}
    assert plan.runs[0].folder == "runs/hybridhash/seed0/8bits"


def test_a_length_that_a_method_cannot_have_is_left_out_with_its_reason(folder):
    plan = plan_of(folder)  # vectors of 12 numbers
    (one,) = plan.left_out
    assert (one.method, one.bits) == ("pca", 16)
    assert "12 dimensions" in one.reason
    assert Cell("pca", 8) in plan.cells and Cell("lsh", 16) in plan.cells


def test_a_method_that_cannot_learn_the_labels_is_left_out_with_its_reason(folder, monkeypatch):
    def refuse(self, labels):
        raise ValueError(f"not {labels.shape[1]} classes")

    monkeypatch.setattr(HybridHash, "check_labels", refuse)
    plan = plan_of(folder)
    assert ("hybridhash", None, "training images of embeddings: not 4 classes") in [
        (one.method, one.bits, one.reason) for one in plan.left_out
    ]
    assert "hybridhash" not in plan.methods


def test_what_leaves_nothing_is_an_error(folder):
    with pytest.raises(ValueError, match="no method is left to compare:\n  pca: 16 bits of"):
        plan_of(folder, comparison__methods=("pca",), bits=(16,))


def test_one_class_is_refused(tmp_path):
    write_vectors(tmp_path, classes=1)
    with pytest.raises(ValueError, match="have 1 class, and two are needed"):
        plan_of(tmp_path)


def test_no_names_are_all_methods_that_learn_codes(folder):
    hashing = [name for name, method in METHODS.items() if method.learns == "codes"]
    assert compared_methods(make_shared(folder, comparison__methods=()).config) == hashing


def test_names_of_a_flag_come_as_one_text(folder):
    config = make_shared(folder, comparison__methods=("lsh, pca",)).config
    assert compared_methods(config) == ["lsh", "pca"]
    check_config(config)


@pytest.mark.parametrize(
    ("field", "value", "parts"),
    [
        ("comparison.methods", ("hybridhas",), ["Did you mean hybridhash", "itq", "csq"]),
        ("comparison.methods", ("classification",), ["there is no method 'classification'"]),
        ("comparison.methods", ("lsh", "lsh"), ["each method once"]),
        ("comparison.seeds", (), ["such as 0 or 0,1,2"]),
        ("comparison.seeds", (0, 0), ["different"]),
        ("comparison.seeds", (-1,), ["whole number"]),
        ("comparison.rates", (), ["such as 3e-4"]),
        ("comparison.rates", (0.0,), ["above 0"]),
        ("comparison.trials", -1, ["at least 0"]),
    ],
)
def test_a_field_of_no_comparison_is_refused(folder, field, value, parts):
    with pytest.raises(ValueError) as error:
        check_config(make_shared(folder, **{field: value}).config)
    for part in (field, *parts):
        assert part in str(error.value)


def test_a_run_is_configured_as_an_ordinary_one(folder):
    shared = make_shared(folder, comparison__trials=1)
    config = shared.of_run(Run(Cell("csq", 16), 3), {"optimizer.learning_rate": 0.5})
    assert (config.method.name, config.bits, config.seed) == ("csq", (16,), 3)
    assert config.optimizer.learning_rate == 0.5
    assert config.method.recipe is None
    other = make_shared(folder, comparison__trials=9).of_run(
        Run(Cell("csq", 16), 3), {"optimizer.learning_rate": 0.5}
    )
    assert config.to_dict() == other.to_dict()  # whatever it is compared with


def test_what_a_flag_gives_no_recipe_changes(folder, monkeypatch):
    recipe = {"features": {"optimizer.learning_rate": 0.25, "optimizer.weight_decay": 0.5}}
    monkeypatch.setattr(HybridHash, "recipes", recipe)
    shared = make_shared(folder)
    assert shared.of_method("hybridhash").optimizer.learning_rate == 0.25
    given = type(shared)(shared.config, frozenset({"optimizer.learning_rate"}))
    own = given.of_method("hybridhash").optimizer
    assert (own.learning_rate, own.weight_decay) == (3e-3, 0.5)


ENTRY = {
    "dataset_checksum": "aa", "protocol": "embeddings", "split_seed": 0, "top_k": None,
    "queries": 10, "database": 20, "train_images": 30, "variant": "embeddings", "features": "f",
    "method": "hybridhash", "bits": 8, "seed": 0, "map_expected": 0.5,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"split_seed": 1}, "split_seed is 0 there and 1 here"),
        ({"variant": "paper"}, "variant is 'embeddings' there and 'paper' here"),
        ({"features": "g"}, r"features \(trained methods\) is 'f' there and 'g' here"),
        ({"protocol": "x"}, "protocol"),
    ],
)
def test_runs_of_other_data_or_another_backbone_are_refused_by_name(
    folder, tmp_path, changed, told
):
    shared = make_shared(folder)
    runs = [Run(Cell(name, 8), 0) for name in ("hybridhash", "lsh", "csq")]
    for run in runs:
        save_config(folder_of(tmp_path, run), shared.of_run(run, {}))
    agreement = cells.Agreement(tmp_path, "aa")
    agreement.check(runs[0], ENTRY)
    agreement.check(runs[1], ENTRY | {"features": "of one view"})  # a fitted method has its own
    agreement.check(runs[2], ENTRY | {"train_images": 99})  # the database, of another method
    with pytest.raises(cells.DisagreementError, match=told) as error:
        agreement.check(runs[2], ENTRY | changed)
    assert "hybridhash/seed0/8bits" in str(error.value) and "csq/seed0/8bits" in str(error.value)


def test_a_run_of_other_images_than_there_are_now_is_refused(folder, tmp_path):
    run = Run(Cell("lsh", 8), 0)
    with pytest.raises(cells.DisagreementError, match="'aa' there and 'bb' now") as error:
        cells.Agreement(tmp_path, "bb").check(run, ENTRY)
    assert "runs/lsh/seed0/8bits" in str(error.value)


def test_a_finished_run_of_another_configuration_is_refused(folder, tmp_path):
    shared, run = make_shared(folder), Run(Cell("hybridhash", 8), 0)
    place = folder_of(tmp_path, run)
    save_config(place, shared.of_run(run, {"optimizer.learning_rate": 0.1}))
    (place / "results.json").write_text(json.dumps([ENTRY]))
    with pytest.raises(ValueError, match="optimizer.learning_rate: 0.1 there, 0.2 here"):
        cells.finished_entry(shared, run, _choice(0.2), tmp_path)
    assert cells.finished_entry(shared, run, _choice(0.1), tmp_path) == ENTRY


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"bits": 16}, "of another run: its bits is 16, not 8"),
        ({"seed": 1}, "of another run: its seed is 1, not 0"),
        ({"method": "csq"}, "of another run: its method is 'csq', not 'hybridhash'"),
        ({"map_expected": "0.9"}, "cannot be read"),
        ({"map_expected": None}, "cannot be read"),
        ({"queries": [10]}, "cannot be read"),
        (5, "cannot be read"),
    ],
)
def test_results_that_were_copied_or_changed_by_hand_are_refused(folder, tmp_path, changed, told):
    shared, run = make_shared(folder), Run(Cell("hybridhash", 8), 0)
    place = folder_of(tmp_path, run)
    save_config(place, shared.of_run(run, {}))
    content = [ENTRY | changed] if isinstance(changed, dict) else changed
    (place / "results.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"results.json .*{told}") as error:
        cells.finished_entry(shared, run, _choice(shared.config.optimizer.learning_rate), tmp_path)
    assert "remove it, and the run is finished again" in str(error.value)


def _choice(rate: float):
    from hybridhash_jax.comparison.tuning import Choice

    return Choice({"optimizer.learning_rate": rate})


def test_the_numbers_of_a_cell_are_those_of_its_seeds(folder, tmp_path):
    shared = make_shared(folder, comparison__methods=("hybridhash",), comparison__seeds=(0, 1, 5))
    plan = make_plan(shared, create_dataset(shared.config))
    entry = ENTRY | {
        "map_expected": 0.5, "epoch": 2.0, "train_images_per_second": 50.0, "images_trained": 100,
        "evaluations": [{"epoch": 1.0, "encode_seconds": 9.0}, {"epoch": 2.0, "encode_seconds": 3.0}],
    }  # fmt: skip
    values = {0: 0.4, 1: 0.5, 5: 0.9}
    entries = {
        Run(Cell("hybridhash", 8), s): entry | {"map_expected": v} for s, v in values.items()
    }
    (found,) = cells.collect_cells(shared, plan, entries, {}, tmp_path)
    assert found["mean"] == pytest.approx(0.6)
    assert found["deviation"] == pytest.approx(np.std([0.4, 0.5, 0.9], ddof=1))
    assert found["values"] == {"0": 0.4, "1": 0.5, "5": 0.9}
    assert (found["train_seconds"], found["encode_seconds"]) == (2.0, 3.0)
    assert found["report"] is None
