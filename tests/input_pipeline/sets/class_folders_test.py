"""Class folders for classification: train and val, or a part of each class held out; packed."""

import numpy as np
import pytest

from input_pipeline import pack
from input_pipeline.datasets import FolderSplits, load_dataset
from input_pipeline.errors import DataError
from input_pipeline.images.encoded import EncodedImages
from tests.input_pipeline.images.photographs import encoded, photograph


def write(directory, **counts):
    """Images of 8 pixels, so many in each subfolder; two underscores become a slash."""
    for number, (name, count) in enumerate(counts.items()):
        folder = directory / name.replace("__", "/")
        folder.mkdir(parents=True)
        for i in range(count):
            data = encoded(photograph(8, 8, seed=100 * number + i))
            (folder / f"{i}.jpg").write_bytes(data)


def load(directory, source="files", held_out=1, seed=0):
    rules = FolderSplits(query_per_class=held_out)
    return load_dataset(
        "class_folders",
        "class_folders",
        source=source,
        directory=str(directory),
        split_seed=seed,
        folder=rules,
    )


def contents(dataset, rows):
    """(the file's bytes, the class's name) of each row."""
    assert isinstance(dataset.images, EncodedImages)
    return {
        (dataset.images.reader.read(row), dataset.class_names[dataset.labels[row].argmax()])
        for row in rows.tolist()
    }


def files(directory, *classes):
    return {(path.read_bytes(), c.name) for c in classes for path in (directory / c).glob("*")}


def test_train_and_val_share_their_classes(tmp_path):
    write(tmp_path, train__ant=3, train__bee=2, train__cat=2, val__bee=2, val__cat=1)
    dataset = load(tmp_path)
    assert dataset.class_names == ("ant", "bee", "cat")
    for part, rows in (("train", dataset.splits.train), ("val", dataset.splits.query)):
        expected = files(tmp_path, *(tmp_path / part).iterdir())
        assert contents(dataset, rows) == expected
        assert len(rows) == len(expected)
    np.testing.assert_array_equal(dataset.splits.database, dataset.splits.train)


def test_without_val_some_images_of_each_class_are_held_out(tmp_path):
    write(tmp_path, ant=5, bee=4)
    dataset = load(tmp_path, held_out=2)
    assert dataset.labels[dataset.splits.query].sum(axis=0).tolist() == [2, 2]
    assert dataset.labels[dataset.splits.train].sum(axis=0).tolist() == [3, 2]
    both = [*dataset.splits.train, *dataset.splits.query]
    assert sorted(both) == list(range(9))
    again, other = load(tmp_path, held_out=2), load(tmp_path, held_out=2, seed=5)
    np.testing.assert_array_equal(dataset.splits.query, again.splits.query)
    assert dataset.splits.query.tolist() != other.splits.query.tolist()


def test_a_class_that_would_have_nothing_to_train_on_is_named(tmp_path):
    write(tmp_path, ant=3, bee=1)
    with pytest.raises(ValueError, match=r"class bee has 1 images.*query_per_class"):
        load(tmp_path)


def test_a_class_of_val_that_train_lacks_is_named(tmp_path):
    write(tmp_path, train__ant=2, val__ant=1, val__wasp=1)
    with pytest.raises(DataError, match="wasp"):
        load(tmp_path)


def test_packed_they_are_the_same_images_and_splits(tmp_path, capsys):
    write(tmp_path, photos__train__ant=3, photos__train__bee=2, photos__val__bee=2)
    photos = tmp_path / "photos"
    arguments = ["--name=pets", f"--dir={photos}", "--class_folders", f"--out={tmp_path / 'out'}"]
    assert pack.main(arguments) == 0
    assert "configs/pretrain_imagenet.py" in capsys.readouterr().out
    unpacked, packed = load(photos), load(tmp_path / "out/pets/1.0.0", source="packed")
    assert packed.class_names == unpacked.class_names
    for rows in ("train", "query", "database"):
        expected = contents(unpacked, getattr(unpacked.splits, rows))
        assert contents(packed, getattr(packed.splits, rows)) == expected
