"""The choice of hyper-parameters: one budget, training images only, trial by trial."""

import dataclasses
import json

import numpy as np
import pytest

from hybridhash_jax.comparison import tuning
from hybridhash_jax.comparison.plan import make_plan
from hybridhash_jax.comparison.tuning import RATE, Tuning, nearest, validation_dataset
from hybridhash_jax.image_sources import create_dataset
from hybridhash_jax.methods.hybridhash import HybridHash
from input_pipeline.images.vectors import Vectors
from tests.comparison.small_comparison import make_shared, write_vectors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("vectors")
    write_vectors(place)
    return place


def tuning_of(folder, workdir, **overrides):
    shared = make_shared(folder, comparison__methods=("hybridhash", "lsh"), **overrides)
    dataset = create_dataset(shared.config)
    return Tuning(shared, make_plan(shared, dataset), dataset, workdir)


def complete(found: Tuning, scores) -> list[dict]:
    """Tries all there is, scored by `scores`: values -> score; returns what was tried, in order."""
    tried = []
    while (values := found.next_values("hybridhash")) is not None:
        tried.append(dict(values))
        found.attempt("hybridhash", values)
    return tried


@pytest.fixture
def scored(monkeypatch):
    """Trials that train nothing: the score is what `scored.by` says of the configuration."""

    class Scored:
        by = staticmethod(lambda config: config.optimizer.learning_rate)

    monkeypatch.setattr(tuning, "score_of", lambda config, dataset, bits: Scored.by(config))
    return Scored


def test_a_tenth_of_the_training_images_are_queries_and_the_rest_is_searched(folder):
    dataset = create_dataset(make_shared(folder).config)
    own = validation_dataset(dataset, 0).splits
    train = set(dataset.splits.train.tolist())
    assert len(own.query) == round(0.1 * len(train))
    assert set(own.query) | set(own.train) == train
    assert not set(own.query) & set(own.train)
    assert set(own.database) == set(own.train)


def test_at_most_500_are_held_out(folder):
    dataset = create_dataset(make_shared(folder).config)
    many = dataclasses.replace(dataset.splits, train=np.arange(9000))
    own = validation_dataset(dataclasses.replace(dataset, splits=many), 0).splits
    assert (len(own.query), len(own.train)) == (500, 8500)


def test_held_out_images_that_find_nothing_are_no_ground_for_a_choice(folder, tmp_path, caplog):
    found = tuning_of(folder, tmp_path)
    labels, splits = np.zeros_like(found.dataset.labels), found.dataset.splits
    labels[splits.database, 0] = 1
    labels[splits.query, 1] = 1
    found.dataset = dataclasses.replace(found.dataset, labels=labels)
    with pytest.raises(ValueError, match=r"^0 of \d+ training images .*comparison.trials=0"):
        found.check()
    labels[splits.query[:3], 0] = 1
    found.check()
    assert f"by chance: only 3 of {len(splits.query)} training images" in caplog.text


def test_a_trial_never_sees_queries_or_database(folder, tmp_path):
    shared = make_shared(folder)
    dataset = create_dataset(shared.config)
    other = dataset.splits.query.tolist() + dataset.splits.database.tolist()
    assert isinstance(dataset.images, Vectors)
    vectors, labels = np.array(dataset.images.array), np.array(dataset.labels)
    vectors[other], labels[other] = np.nan, 0
    corrupt = dataclasses.replace(dataset, images=Vectors(vectors), labels=labels)
    config = shared.of_method("hybridhash")
    whole, without = (
        tuning.score_of(config, validation_dataset(one, 0), 8) for one in (dataset, corrupt)
    )
    assert whole is not None and 0.3 < whole < 1
    assert whole == without


def test_the_rates_are_tried_and_then_the_option_at_the_best(folder, tmp_path, monkeypatch, scored):
    monkeypatch.setattr(HybridHash, "grid", {"alpha": (0.1, 0.5, 2.0)})
    found = tuning_of(
        folder,
        tmp_path,
        comparison__rates=(1e-3, 1e-1, 1e-2),
        comparison__trials=9,
        loss__alpha=0.5,
    )
    scored.by = lambda c: -abs(c.optimizer.learning_rate - 1e-2) - abs(c.loss.alpha - 0.1)
    rates = [{RATE: 1e-3}, {RATE: 1e-2}, {RATE: 1e-1}]
    options = [{RATE: 1e-2, "loss.alpha": 0.1}, {RATE: 1e-2, "loss.alpha": 2.0}]
    assert complete(found, scored) == rates + options
    choice = found.choice("hybridhash")
    assert choice.values == {RATE: 1e-2, "loss.alpha": 0.1}
    assert choice.at_edge == ("loss.alpha",)
    assert len(choice.trials) == 5


@pytest.mark.parametrize(
    ("most", "tried"), [(1, [1e-2]), (2, [1e-2, 1e-1]), (3, [1e-3, 1e-2, 1e-1])]
)
def test_the_budget_is_never_exceeded_and_takes_the_rates_next_to_the_recipes(most, tried):
    assert nearest((1e-3, 1e-1, 1e-2), 2e-2, most) == tried


def test_the_budget_counts_all_trials(folder, tmp_path, monkeypatch, scored):
    monkeypatch.setattr(HybridHash, "grid", {"alpha": (0.1, 0.5, 2.0)})
    found = tuning_of(folder, tmp_path, comparison__trials=3, comparison__rates=(1e-3, 1e-2))
    assert len(complete(found, scored)) == 3


def test_a_choice_at_the_end_of_the_rates_is_marked(folder, tmp_path, scored):
    found = tuning_of(folder, tmp_path, comparison__rates=(1e-3, 1e-2), comparison__trials=2)
    complete(found, scored)
    assert found.choice("hybridhash").at_edge == (RATE,)


def test_nothing_is_tried_of_a_fitted_method_or_without_a_budget(folder, tmp_path):
    assert tuning_of(folder, tmp_path).next_values("lsh") is None
    without = tuning_of(folder, tmp_path, comparison__trials=0)
    assert without.next_values("hybridhash") is None
    assert without.choice("hybridhash").values == {}


def test_a_diverged_trial_is_kept_and_never_chosen(folder, tmp_path, scored):
    scored.by = lambda c: None if c.optimizer.learning_rate == 1e-2 else 0.1
    found = tuning_of(folder, tmp_path)
    complete(found, scored)
    assert found.choice("hybridhash").values == {RATE: 1e-3}
    assert [trial["score"] for trial in found.choice("hybridhash").trials] == [0.1, None]


def test_where_all_diverge_the_recipe_stays(folder, tmp_path, scored):
    scored.by = lambda c: None
    found = tuning_of(folder, tmp_path)
    assert len(complete(found, scored)) == 2
    assert found.choice("hybridhash").values == {}


def test_another_process_goes_on_with_the_trials_that_are_there(folder, tmp_path, scored):
    first = tuning_of(folder, tmp_path)
    first.attempt("hybridhash", {RATE: 1e-3})
    second = tuning_of(folder, tmp_path)
    assert second.next_values("hybridhash") == {RATE: 1e-2}
    assert complete(second, scored) == [{RATE: 1e-2}]
    assert len(second.record()["methods"]["hybridhash"]["trials"]) == 2


def test_trials_of_another_configuration_are_not_gone_on_with(folder, tmp_path, scored):
    complete(tuning_of(folder, tmp_path), scored)
    with pytest.raises(ValueError, match="num_epochs: 2 there, 3 here"):
        tuning_of(folder, tmp_path, num_epochs=3).check()


def test_lengths_may_be_added_that_keep_the_one_that_is_tried(folder, tmp_path, scored):
    complete(tuning_of(folder, tmp_path, bits=(8, 16)), scored)
    tuning_of(folder, tmp_path, bits=(4, 16, 32)).check()
    with pytest.raises(ValueError, match=r"bits: \[16\] there, \[32\] here"):
        tuning_of(folder, tmp_path, bits=(8, 16, 32, 48)).check()


@pytest.mark.parametrize("change", [{"comparison__trials": 1}, {"comparison__rates": (1e-3, 3e-3)}])
def test_values_are_not_chosen_otherwise_in_the_same_table(folder, tmp_path, scored, change):
    first = tuning_of(folder, tmp_path)
    first.check_budget()
    complete(first, scored)
    with pytest.raises(
        ValueError, match=r"chosen otherwise:\n  comparison\.\w+: .* there, .* here"
    ):
        tuning_of(folder, tmp_path, **change).check_budget()
    tuning_of(folder, tmp_path, comparison__seeds=(0, 1, 2)).check_budget()


def test_values_are_not_chosen_on_other_images_in_the_same_table(folder, tmp_path):
    tuning_of(folder, tmp_path).check_budget()
    tuning_of(folder, tmp_path).check_budget()
    write_vectors(tmp_path, count=400)
    with pytest.raises(
        ValueError, match=r"the images are not those of .*tuning\.json: .* there and"
    ):
        tuning_of(tmp_path, tmp_path).check_budget()


def test_a_damaged_record_says_what_to_do(folder, tmp_path, scored):
    found = tuning_of(folder, tmp_path)
    found.attempt("hybridhash", {RATE: 1e-3})
    (tmp_path / "tuning" / "hybridhash" / "trials.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read; remove it to try again"):
        found.next_values("hybridhash")


def test_a_batch_larger_than_what_is_left_is_refused_before_anything_trains(folder, tmp_path):
    train = len(create_dataset(make_shared(folder).config).splits.train)
    with pytest.raises(ValueError, match="training images that are left.*comparison.trials=0"):
        tuning_of(folder, tmp_path, batch_size=train, num_devices=1).check()


def test_the_record_is_plain_json(folder, tmp_path, scored):
    found = tuning_of(folder, tmp_path)
    complete(found, scored)
    assert json.loads(json.dumps(found.record()))["methods"]["hybridhash"]["bits"] == 16
