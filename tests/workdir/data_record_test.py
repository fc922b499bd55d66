"""What a run was trained on is kept, and a change of it is said in words before anything is lost."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridhash_jax.workdir import names
from hybridhash_jax.workdir.data_record import change_of_data, check_data, save_data
from input_pipeline.dataset import Dataset
from input_pipeline.datasets import EmbeddingFiles, FolderSplits, load_dataset, load_kept
from input_pipeline.errors import DataError


def add_image(folder: Path, name: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), len(os.listdir(path.parent)), np.uint8)).save(path)


@pytest.fixture
def photographs(tmp_path) -> Path:
    for name in ("cat", "dog"):
        for i in range(12):
            add_image(tmp_path / "photographs", f"{name}/{i:02}.png")
    return tmp_path / "photographs"


def load(folder: Path) -> Dataset:
    sizes = FolderSplits(query_per_class=3, train_per_class=5)
    return load_dataset("folder", "folder", source="files", directory=str(folder), folder=sizes)


def split_names(dataset: Dataset) -> dict[str, list[str]]:
    images: object = dataset.images
    listed = getattr(images, "names")  # noqa: B009
    return {
        split: [listed[row] for row in rows] for split, rows in dataset.splits.by_name().items()
    }


def test_the_same_images_are_the_same_run(tmp_path, photographs):
    save_data(tmp_path / "w", load(photographs))
    assert change_of_data(tmp_path / "w", load(photographs)) is None
    check_data(tmp_path / "w", load(photographs))
    assert change_of_data(tmp_path / "earlier version", load(photographs)) is None


def test_two_more_photographs_are_noticed_with_what_they_would_do(tmp_path, photographs):
    save_data(tmp_path / "w", load(photographs))
    add_image(photographs, "cat/new.png")
    add_image(photographs, "dog/new.png")
    with pytest.raises(DataError) as refused:
        check_data(tmp_path / "w", load(photographs))
    for part in ("2 new (cat/new.png, dog/new.png)", "2 from training to database",
                 "--config.data.splits=kept", "choose another --workdir"):  # fmt: skip
        assert part in str(refused.value)


def test_the_kept_splits_are_those_of_the_beginning(tmp_path, photographs):
    first = load(photographs)
    save_data(tmp_path / "w", first)
    add_image(photographs, "cat/new.png")
    kept = load_kept("folder", str(photographs), str(tmp_path / "w" / names.LISTS))
    assert change_of_data(tmp_path / "w", kept) is None
    assert split_names(kept) == split_names(first)
    assert kept.class_names == first.class_names
    for split, rows in kept.splits.by_name().items():
        np.testing.assert_array_equal(
            kept.labels[rows], first.labels[first.splits.by_name()[split]]
        )


def test_images_that_are_gone_and_other_labels_are_noticed(tmp_path, photographs):
    dataset = load(photographs)
    save_data(tmp_path / "w", dataset)
    labels = dataset.labels.copy()
    labels[dataset.splits.train[0]] = labels[dataset.splits.train[0]][::-1]
    relabelled = dataclasses.replace(dataset, labels=labels)
    assert "1 have other labels (" in (change_of_data(tmp_path / "w", relabelled) or "")
    splits = dataclasses.replace(dataset.splits, query=dataset.splits.query[1:])
    fewer = dataclasses.replace(dataset, splits=splits)
    assert "1 gone (" in (change_of_data(tmp_path / "w", fewer) or "")


def test_arrays_are_compared_by_their_checksum(tmp_path):
    dataset = load_dataset("digits", "digits")
    save_data(tmp_path, dataset)
    assert not (tmp_path / names.LISTS).exists()
    assert change_of_data(tmp_path, dataset) is None
    other = dataclasses.replace(dataset, checksum="0" * 16)
    assert f"checksum {dataset.checksum} then, {'0' * 16} now" in (
        change_of_data(tmp_path, other) or ""
    )


def test_vectors_are_compared_by_their_checksum(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((20, 3), np.float32))
    np.save(tmp_path / "y.npy", np.arange(20) % 2)
    files = EmbeddingFiles(str(tmp_path / "x.npy"), str(tmp_path / "y.npy"))

    def load_vectors(seed: int):
        return load_dataset(
            "embeddings", "embeddings", source="vectors", split_seed=seed, embeddings=files
        )

    save_data(tmp_path, load_vectors(0))
    assert not (tmp_path / names.LISTS).exists()
    assert change_of_data(tmp_path, load_vectors(0)) is None
    assert "checksum" in (change_of_data(tmp_path, load_vectors(1)) or "")


def test_a_damaged_record_is_refused_and_an_old_one_is_never_replaced(tmp_path):
    dataset = load_dataset("digits", "digits")
    save_data(tmp_path, dataset)
    save_data(tmp_path, dataclasses.replace(dataset, checksum="1" * 16))
    assert json.loads((tmp_path / names.DATA).read_text())["checksum"] == dataset.checksum
    (tmp_path / names.DATA).write_text("{")
    with pytest.raises(DataError, match="data.json cannot be read"):
        check_data(tmp_path, dataset)
