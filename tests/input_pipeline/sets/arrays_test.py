"""Four NumPy files become a data set, and what is wrong with them is explained."""

import numpy as np
import pytest

from input_pipeline.datasets import load_dataset
from input_pipeline.errors import DataError


@pytest.fixture
def directory(tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("val", 5)):
        images = rng.integers(0, 256, (count, 6, 6, 3)).astype(np.uint8)
        np.save(tmp_path / f"{part}_images.npy", images)
        np.save(tmp_path / f"{part}_labels.npy", (np.arange(count) % 4).astype(np.uint8))
    return tmp_path


def load(directory, name="arrays"):
    return load_dataset(name, name, source="arrays", directory=str(directory))


@pytest.mark.parametrize("name", ["arrays", "tiny_imagenet32"])
def test_the_parts_become_training_images_and_queries(directory, name):
    dataset = load(directory, name)
    assert (dataset.name, dataset.protocol) == (name, name)
    images = np.asarray(dataset.images)
    for part, rows in (("train", dataset.splits.train), ("val", dataset.splits.query)):
        np.testing.assert_array_equal(images[rows], np.load(directory / f"{part}_images.npy"))
        labels = np.load(directory / f"{part}_labels.npy")
        np.testing.assert_array_equal(dataset.labels[rows].argmax(axis=1), labels)
    assert (dataset.labels.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(dataset.splits.database, dataset.splits.train)
    assert dataset.class_names == ("0", "1", "2", "3")


def test_classes_may_be_named_also_those_without_an_image(directory):
    (directory / "classes.txt").write_text("cat\ndog\n\nguinea pig\nowl\nbee\n")
    dataset = load(directory)
    assert dataset.class_names == ("cat", "dog", "guinea pig", "owl", "bee")
    assert dataset.labels.shape == (17, 5)
    (directory / "classes.txt").write_text("cat\n")
    with pytest.raises(DataError, match="names 1 classes, but labels go up to 3"):
        load(directory)


def test_other_pixels_or_labels_have_another_checksum(directory):
    before = load(directory).checksum
    labels = np.load(directory / "val_labels.npy")
    np.save(directory / "val_labels.npy", labels[::-1])
    assert load(directory).checksum != before


def test_a_missing_file_is_named_with_what_is_needed(directory):
    (directory / "val_labels.npy").unlink()
    with pytest.raises(DataError, match=r"val_labels.npy.*needs train_images.npy"):
        load(directory)


def test_an_array_of_objects_is_not_unpickled(directory):
    np.save(directory / "train_labels.npy", np.array([{}, 1], object), allow_pickle=True)
    with pytest.raises(DataError, match="train_labels.npy holds Python objects"):
        load(directory)


def test_any_damage_is_explained(directory):
    path = directory / "train_images.npy"
    content = path.read_bytes()
    damaged = [content[:-100], b"PK\x03\x04" + content[4:], content[:50], b""]
    damaged += [content.replace(part, b"(", 1) for part in (b"{", b"'", b"F", b")", b"}")]
    for one in damaged:
        path.write_bytes(one)
        with pytest.raises(DataError, match="train_images.npy"):
            load(directory)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train_images", np.zeros((12, 6, 6, 3), np.float32), "holds float32"),
        ("train_images", np.zeros((12, 6, 6), np.uint8), "expected uint8"),
        ("val_images", np.zeros((5, 8, 8, 3), np.uint8), r"training images are \(6, 6, 3\)"),
        ("val_labels", np.zeros(4, np.uint8), "an integer for each of the 5 images"),
        ("val_labels", np.zeros(5, np.float32), "holds float32"),
        ("train_labels", np.full(12, -1), "classes are numbered from 0"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(directory, name, array, message):
    np.save(directory / f"{name}.npy", array)
    with pytest.raises(DataError, match=message):
        load(directory)
