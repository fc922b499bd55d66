"""Runs on features: those of a frozen part, kept on disk; of fitted methods; given embeddings."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import embeddings
from hybridhash_jax.evaluation_run import evaluate_checkpoint
from hybridhash_jax.features.store import FeatureStore
from hybridhash_jax.metrics import cosine_average_precisions
from hybridhash_jax.run import train
from hybridhash_jax.runtime.interrupt import Interrupted
from input_pipeline.errors import DataError
from tests.runs.small_run import StopAt, make_config, outcome

pytestmark = pytest.mark.slow

FROZEN = ("^patch_embed/", "^levels/0/")


def frozen_config(folder: Path, **overrides: Any) -> Any:
    own = {
        "optimizer__frozen": FROZEN,
        "model__drop_path_rate": 0.0,
        "features__dir": str(folder / "features"),
        "num_epochs": 2,
    }
    return make_config(**own | overrides)


def entry_of(workdir: Path) -> dict[str, Any]:
    (entry,) = json.loads((workdir / "results.json").read_text())
    return entry


def losses(workdir: Path) -> list[float]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [line["loss"] for line in map(json.loads, lines) if "loss" in line]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A finished run on kept features: its folder."""
    folder = tmp_path_factory.mktemp("kept")
    train(frozen_config(folder), folder / "run", StopAt())
    return folder


def test_training_on_kept_features_is_training_on_images(kept, tmp_path):
    train(frozen_config(tmp_path, features__keep="never"), tmp_path / "run", StopAt())
    assert not (tmp_path / "features").exists()
    # Kept features are float16.
    np.testing.assert_allclose(losses(kept / "run"), losses(tmp_path / "run"), rtol=0.02)
    ours, theirs = (entry_of(folder / "run")["last"] for folder in (kept, tmp_path))
    assert ours["map_expected"] == pytest.approx(theirs["map_expected"], abs=0.03)


def test_a_second_run_finds_the_features_and_ends_the_same(kept, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "hybridhash_jax"):
        train(frozen_config(kept), tmp_path / "again", StopAt())
    assert "computing the features" not in caplog.text
    assert outcome(tmp_path / "again") == outcome(kept / "run")


def test_a_network_that_computes_otherwise_has_features_of_its_own(kept, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "hybridhash_jax"):
        train(frozen_config(kept, num_epochs=1, model__gelu="tanh"), tmp_path / "run", StopAt())
    assert "computing the features of 1,797 images" in caplog.text


@pytest.mark.thorough
def test_a_run_that_was_stopped_ends_as_if_it_was_not(kept, tmp_path):
    config = frozen_config(kept)
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", StopAt(5))
    train(config, tmp_path / "run", StopAt())
    assert outcome(tmp_path / "run") == outcome(kept / "run")


def test_a_checkpoint_is_evaluated_on_kept_features(kept, tmp_path):
    found = evaluate_checkpoint(frozen_config(kept), kept / "run", output=tmp_path / "out")
    assert found["map_expected"] == entry_of(kept / "run")["map_expected"]


def test_mirrored_images_are_a_second_view(tmp_path, caplog):
    config = frozen_config(tmp_path, data__horizontal_flip=True, num_epochs=1)
    with caplog.at_level(logging.INFO, "hybridhash_jax"):
        train(config, tmp_path / "run", StopAt())
    assert "of 2 views" in caplog.text
    (facts,) = (tmp_path / "features").glob("*/facts.json")
    assert json.loads(facts.read_text())["views"] == 2


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        pytest.param(
            {"data__crop_padding": 1},
            "data.crop_padding changes the images at random",
            marks=pytest.mark.thorough,
        ),
        pytest.param(
            {"features__budget_gb": 1e-4},
            "1,797 images need .* GB, and features.budget_gb is 0.0001",
            marks=pytest.mark.thorough,
        ),
        ({"data__horizontal_flip": True, "features__views": 1}, "needs --config.features.views=2"),
    ],
)
def test_why_features_are_not_kept_is_said(tmp_path, caplog, overrides, reason):
    config = frozen_config(tmp_path, num_epochs=1, **overrides)
    with caplog.at_level(logging.INFO, "hybridhash_jax"):
        train(config, tmp_path / "run", StopAt())
    assert caplog.text.count("and not kept: ") == 1
    assert re.search(reason, caplog.text)
    assert not (tmp_path / "features").exists()


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("lsh", marks=pytest.mark.thorough),
        pytest.param("pca", marks=pytest.mark.thorough),
        "itq",
    ],
)
def test_a_fitted_method_is_one_step(tmp_path, method):
    # Its batch size means nothing: it is fitted to all training images at once.
    config = make_config(method__name=method, batch_size=10**6, features__dir=str(tmp_path / "f"))
    train(config, tmp_path / "run", StopAt())
    entry = entry_of(tmp_path / "run")
    assert entry["method"] == method
    assert entry["epoch"] == 1
    assert entry["constant_bits"] == 0
    assert 0.1 < entry["map_expected"] < 0.9
    again = evaluate_checkpoint(config, tmp_path / "run")
    assert again["map_expected"] == entry["map_expected"]


@pytest.fixture(scope="module")
def vectors(tmp_path_factory) -> Path:
    """Files of 400 vectors around five directions, and their labels."""
    folder = tmp_path_factory.mktemp("vectors")
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 5
    array = rng.normal(size=(5, 24))[labels] + 1.5 * rng.normal(size=(400, 24))
    np.save(folder / "vectors.npy", array.astype(np.float16))
    np.save(folder / "labels.npy", labels)
    return folder


def embeddings_config(vectors: Path, **overrides: Any) -> Any:
    config = embeddings.get_config()
    own = {
        "data.embeddings": str(vectors / "vectors.npy"),
        "data.labels": str(vectors / "labels.npy"),
        "bits": (16,),
        "batch_size": 64,
        "num_devices": 1,
    }
    given = {name.replace("__", "."): value for name, value in overrides.items()}
    config.update_from_flattened_dict(own | given)
    return config.lock()


def test_codes_of_given_embeddings_are_measured_beside_their_cosine(vectors, tmp_path):
    train(embeddings_config(vectors), tmp_path / "run", StopAt())
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    with np.load(tmp_path / "run" / "codes" / "query.npz", allow_pickle=False) as query:
        queries, query_labels = query["rows"], query["labels"]
    with np.load(tmp_path / "run" / "codes" / "database.npz", allow_pickle=False) as database:
        rows, labels = database["rows"], database["labels"]
    array = np.load(vectors / "vectors.npy")
    expected = cosine_average_precisions(array[queries], query_labels, array[rows], labels).mean()
    (row,) = report["baselines"]
    assert row == {
        "name": "cosine of the features",
        "map_expected": pytest.approx(float(expected)),
        "dimensions": 24,
        "bytes_per_image": 48,
    }
    assert report["map"]["expected"] > row["map_expected"]  # labels help


def test_a_network_for_images_refuses_embeddings(vectors, tmp_path):
    config = embeddings_config(vectors, model__variant="demo_16px", model__head_kind=None)
    with pytest.raises(ValueError, match="use --config.model.variant=embeddings"):
        train(config, tmp_path / "run", StopAt())
    with pytest.raises(ValueError, match="takes embeddings, and data.name=digits are images"):
        train(make_config(model__variant="embeddings"), tmp_path / "other", StopAt())


def test_an_image_whose_features_are_too_large_is_named(tmp_path, monkeypatch):
    keep = FeatureStore.append

    def too_large(self, sums, features, names):
        features = features.astype(np.float32)
        features[3] = 1e6
        keep(self, sums, features, names)

    monkeypatch.setattr(FeatureStore, "append", too_large)
    with pytest.raises(DataError, match=r"the features of 1 of .* reach 1e\+06.*\(image \d+\)"):
        train(frozen_config(tmp_path), tmp_path / "run", StopAt())


def test_features_that_are_all_there_are_read_from_a_folder_that_cannot_be_written(
    kept, tmp_path, monkeypatch
):
    def refuse(self):
        raise AssertionError("nothing is to be written")

    monkeypatch.setattr(FeatureStore, "writing", refuse)
    train(frozen_config(kept, num_epochs=1), tmp_path / "run", StopAt())
    assert entry_of(tmp_path / "run")["epoch"] == 1
