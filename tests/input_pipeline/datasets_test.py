"""`load_dataset` from names to arrays: sizes, labels, provenance and explained mistakes."""

import ast
import functools
import hashlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from input_pipeline import datasets
from input_pipeline.dataset import Dataset
from input_pipeline.datasets import load_dataset
from input_pipeline.errors import DataError
from input_pipeline.sets import published

read_once = functools.cache(published.read_cifar10)  # three protocols share 180 MB


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", "digits", split_seed=0)


@pytest.fixture(scope="module")
def blank_cifar(tmp_path_factory) -> str:
    """Full-size binary CIFAR-10 files: 60,000 black images, 6,000 a class."""
    folder = tmp_path_factory.mktemp("cifar")
    records = np.zeros((10_000, 3073), np.uint8)
    records[:, 0] = np.arange(10_000) % 10
    for name in ("data_batch_1", *(f"data_batch_{i}" for i in range(2, 6)), "test_batch"):
        (folder / f"{name}.bin").write_bytes(records.data)
    return str(folder)


def test_digits_are_complete(digits):
    assert digits.images.shape == (1797, 8, 8, 3)
    assert digits.images.dtype == digits.labels.dtype == np.uint8
    assert digits.labels.shape == (1797, 10)
    assert (digits.labels.sum(axis=1) == 1).all()
    assert len(digits.class_names) == 10
    assert (digits.name, digits.protocol, digits.top_k) == ("digits", "digits", None)
    assert digits.official is None
    assert "scikit-learn" in digits.provenance


def test_digits_are_those_that_scikit_learn_gives(digits):
    values, classes = load_digits(return_X_y=True)
    grey = digits.images[..., 0].reshape(1797, 64)
    np.testing.assert_array_equal(np.round(grey * (16 / 255)), values)
    np.testing.assert_array_equal(digits.labels.argmax(axis=1), classes)


def test_digits_are_grey_and_use_the_whole_range(digits):
    assert (digits.images == digits.images[..., :1]).all()
    assert np.unique(digits.images).tolist() == [round(v * 255 / 16) for v in range(17)]


def test_digits_splits_are_the_same_on_every_machine(digits):
    splits = digits.splits
    assert (len(splits.train), len(splits.query), len(splits.database)) == (1000, 200, 597)
    together = np.concatenate([splits.train, splits.query, splits.database])
    assert sorted(together) == list(range(1797))
    assert (digits.labels[splits.train].sum(axis=0) == 100).all()
    assert (digits.labels[splits.query].sum(axis=0) == 20).all()
    assert hashlib.sha256(together.astype("<i8").tobytes()).hexdigest()[:16] == "7f8c8402a5f1152f"


def test_the_checksum_is_that_of_the_contents_and_not_of_the_split(digits):
    assert digits.checksum == "79d38fb4c945ff9a"
    assert load_dataset("digits", "digits", split_seed=1).checksum == digits.checksum


def test_the_split_follows_the_seed(digits):
    again = load_dataset("digits", "digits", split_seed=0).splits
    other = load_dataset("digits", "digits", split_seed=1).splits
    np.testing.assert_array_equal(again.train, digits.splits.train)
    assert (other.train != digits.splits.train).any()


@pytest.mark.parametrize(
    ("protocol", "train", "query", "database"),
    [
        ("cifar10", 5_000, 1_000, 54_000),
        ("cifar10-1", 5_000, 1_000, 59_000),
        ("cifar10-2", 50_000, 10_000, 50_000),
    ],
)
def test_cifar_files_become_a_protocol(blank_cifar, monkeypatch, protocol, train, query, database):
    monkeypatch.setattr(published, "read_cifar10", read_once)
    dataset = load_dataset("cifar10", protocol, directory=blank_cifar, split_seed=3)
    splits = dataset.splits
    assert (len(splits.train), len(splits.query), len(splits.database)) == (train, query, database)
    assert isinstance(dataset.images, np.ndarray)
    assert dataset.images.shape == (60_000, 32, 32, 3)
    assert (dataset.labels.argmax(axis=1) == np.arange(60_000) % 10).all()
    assert dataset.class_names[3] == "cat"
    assert dataset.official is None


@pytest.mark.parametrize(
    ("name", "protocol", "source", "why"),
    [
        ("cifar", "cifar10", "archive", "unknown data set 'cifar'; accepted: 'cifar10', 'digits'"),
        ("cifar10", "digits", "archive", "accepted: 'cifar10', 'cifar10-1', 'cifar10-2'"),
        ("digits", "cifar10", "archive", "digits has no protocol 'cifar10'; accepted: 'digits'"),
        ("cifar10", "cifar10", "hub", "no source 'hub'; accepted: 'archive', 'tfds'"),
        ("digits", "digits", "tfds", "digits has no source 'tfds'; accepted: 'archive'"),
    ],
)
def test_unknown_names_are_answered_with_the_known_ones(name, protocol, source, why):
    with pytest.raises(ValueError, match=why):
        load_dataset(name, protocol, source=source)


def test_missing_files_are_a_data_error(tmp_path):
    with pytest.raises(DataError, match="no CIFAR-10 files in"):
        load_dataset("cifar10", "cifar10", directory=str(tmp_path), download=False)


def test_the_package_imports_neither_jax_nor_the_project():
    files = sorted((Path(__file__).parents[2] / "input_pipeline").rglob("*.py"))
    imported = set()
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert "numpy" in imported, "the search found no imports at all"
    assert not imported & {"jax", "flax", "hybridhash_jax", "configs"}


def test_vectors_are_a_data_set_whose_splits_follow_seed_and_rules(tmp_path):
    vectors, labels = tmp_path / "x.npy", tmp_path / "y.npy"
    np.save(vectors, np.ones((40, 3), np.float32))
    np.save(labels, np.arange(40) % 2)
    files = datasets.EmbeddingFiles(str(vectors), str(labels))

    def load(seed, **rules):
        return load_dataset(
            "embeddings",
            "embeddings",
            source="vectors",
            split_seed=seed,
            folder=datasets.FolderSplits(**rules),
            embeddings=files,
        )

    assert load(0).name in datasets.SOURCES
    assert load(0).splits.query.tolist() != load(1).splits.query.tolist()
    assert len(load(0, query_per_class=5, train_per_class=3).splits.query) == 10
    with pytest.raises(ValueError, match="--config.data.embeddings=FILE"):
        load_dataset("embeddings", "embeddings", source="vectors")
    with pytest.raises(ValueError, match="no source 'archive'; accepted: 'vectors'"):
        load_dataset("embeddings", "embeddings")
