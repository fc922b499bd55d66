"""Lists and folders become data sets, with the published sizes or an explanation."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from input_pipeline import pack
from input_pipeline.datasets import FolderSplits, ListFiles, load_dataset
from input_pipeline.errors import DataError
from input_pipeline.images.encoded import EncodedImages
from input_pipeline.images.transforms import ImageTransform
from input_pipeline.loader import make_train_iterator
from input_pipeline.order import TrainingOrder
from input_pipeline.sets import image_sets
from input_pipeline.sources import DecodedSource
from input_pipeline.splits import LIST_PROTOCOLS, ListProtocol
from tests.input_pipeline.images.photographs import encoded, photograph, write_lists


@pytest.fixture
def directory(tmp_path):
    write_lists(tmp_path, 12, num_train=5, num_query=3)
    return tmp_path


def names_of(dataset, rows) -> list[str]:
    assert isinstance(dataset.images, EncodedImages)
    names = dataset.images.names
    return [str(names[row]) for row in rows]


def load(directory, **arguments):
    return load_dataset("lists", "lists", source="files", directory=str(directory), **arguments)


def test_three_lists_become_splits_of_one_set_of_images(directory):
    dataset = load(directory)
    assert names_of(dataset, dataset.splits.query) == [f"images/{i:03d}.jpg" for i in range(3)]
    assert names_of(dataset, dataset.splits.train) == [f"images/{i:03d}.jpg" for i in range(3, 8)]
    assert names_of(dataset, dataset.splits.database) == [
        f"images/{i:03d}.jpg" for i in range(3, 12)
    ]
    assert len(dataset.images) == len(dataset.labels) == 12
    row = dataset.splits.query[1]
    assert dataset.labels[row].tolist() == [1, 0, 0]
    assert isinstance(dataset.images, EncodedImages)
    file = directory / "images/001.jpg"
    assert dataset.images.reader.read(int(row)) == file.read_bytes()


def test_lists_may_lie_elsewhere_and_have_other_names(directory, tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    for old, new in (("train", "a"), ("test", "b"), ("database", "c")):
        (directory / f"{old}.txt").rename(lists / f"{new}.txt")
    (lists / "classes.txt").write_text("cat\nguinea pig\ndog\n")
    dataset = load(directory, lists=ListFiles(str(lists), "a.txt", "b.txt", "c.txt"))
    assert dataset.class_names == ("cat", "guinea pig", "dog")
    assert len(dataset.splits.query) == 3


def test_a_tilde_is_the_home_folder(directory, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (directory / "classes.txt").write_text("cat\nguinea pig\ndog\n")
    (directory / "train.txt").rename(directory / "a.txt")
    dataset = load(directory, lists=ListFiles("~", train="~/a.txt"))
    assert len(dataset.splits.train) == 5
    assert dataset.class_names == ("cat", "guinea pig", "dog")


def test_classes_without_a_file_are_numbered(directory):
    assert load(directory).class_names == ("0", "1", "2")
    (directory / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match="names 2 classes, but the lists have 3"):
        load(directory)


def test_the_checksum_tells_lists_apart(directory):
    before = load(directory).checksum
    assert load(directory).checksum == before
    lines = (directory / "train.txt").read_text().splitlines(keepends=True)
    (directory / "train.txt").write_text("".join(lines[::-1]))
    assert load(directory).checksum != before


def test_a_query_in_the_database_is_refused(directory):
    with (directory / "database.txt").open("a") as file:
        file.write((directory / "test.txt").read_text().splitlines()[0])
    with pytest.raises(DataError, match=r"(?s)images/000\.jpg.*input_pipeline\.check"):
        load(directory)


def test_other_sizes_than_the_protocols_are_refused(directory, monkeypatch):
    with pytest.raises(DataError, match=r"(?s)cannot be used for coco.*10,?000"):
        load_dataset("coco", "coco", source="files", directory=str(directory))
    monkeypatch.setitem(LIST_PROTOCOLS, "coco", ListProtocol(5, 3, 9, 3, 7))
    dataset = load_dataset("coco", "coco", source="files", directory=str(directory))
    assert dataset.top_k == 7


def test_published_protocols_have_the_published_sizes():
    sizes = {name: dataclasses.astuple(rules) for name, rules in LIST_PROTOCOLS.items()}
    assert sizes == {
        "nuswide_21": (10500, 2100, 193734, 21, 5000),
        "nuswide_21_m": (10500, 2100, None, 21, 5000),
        "nuswide_81_m": (10000, 5000, 168692, 81, 5000),
        "imagenet100": (13000, 5000, 128503, 100, 1000),
        "coco": (10000, 5000, 117218, 80, 5000),
        "mirflickr": (4000, 1000, 20000, 38, None),
        "voc2012": (4000, 1000, 6540, 20, None),
        "lists": (None, None, None, None, None),
    }


def test_a_missing_folder_is_asked_for(tmp_path):
    with pytest.raises(ValueError, match=r"--config\.data\.dir=FOLDER"):
        load_dataset("lists", "lists", source="files")
    with pytest.raises(DataError, match="train.txt"):
        load(tmp_path / "nothing")


@pytest.fixture
def folder(tmp_path):
    write_lists(tmp_path / "all", 20, num_train=1, num_query=1)
    for i in range(20):
        target = tmp_path / "classes" / ("cat", "dog")[i % 2] / f"{i}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "all" / "images" / f"{i:03d}.jpg").rename(target)
    (tmp_path / "classes" / "cat" / "notes.txt").write_text("not an image")
    return tmp_path / "classes"


def load_folder(folder, seed=0, **sizes: Any):
    defaults: dict[str, Any] = {"query_per_class": 2, "train_per_class": 3}
    return load_dataset(
        "folder",
        "folder",
        source="files",
        directory=str(folder),
        split_seed=seed,
        folder=FolderSplits(**(defaults | sizes)),
    )


def test_a_folder_a_class_is_split_by_the_seed(folder):
    dataset = load_folder(folder)
    assert dataset.class_names == ("cat", "dog")
    splits = dataset.splits
    assert (len(splits.query), len(splits.train), len(splits.database)) == (4, 6, 10)
    for row in splits.query:
        assert dataset.class_names[int(dataset.labels[row].argmax())] in names_of(dataset, [row])[0]
    assert "left out: 1 .txt file (cat/notes.txt)" in dataset.provenance
    assert load_folder(folder).checksum == dataset.checksum
    assert load_folder(folder, seed=1).checksum != dataset.checksum
    assert len(load_folder(folder, database="train_and_rest").splits.database) == 16


def test_too_few_images_of_a_class_are_explained_by_name(folder):
    with pytest.raises(ValueError, match=r"2 of 2 classes .*cat 10, dog 10; sizes that fit: "):
        load_folder(folder, train_per_class=9)


def test_packed_images_give_the_batches_of_their_files(directory, tmp_path):
    (directory / "images/007.jpg").write_bytes(encoded(photograph(50, 35), "PNG"))
    arguments = ["--name=lists", f"--dir={directory}", f"--out={tmp_path / 'packed'}"]
    assert pack.main([*arguments, "--images_per_shard=5"]) == 0
    files = load(directory)
    packed = load_dataset(
        "lists", "lists", source="packed", directory=str(tmp_path / "packed" / "lists")
    )
    assert packed.checksum == files.checksum
    assert packed.class_names == files.class_names
    transform = ImageTransform(24, 32, horizontal_flip=True)
    iterators = []
    for dataset, workers in ((files, 0), (packed, 3)):
        assert isinstance(dataset.images, EncodedImages)
        source = DecodedSource(dataset.images, transform, workers)
        rows = dataset.splits.train
        iterators.append(
            make_train_iterator(source, dataset.labels, rows, order=TrainingOrder(len(rows), 4, 0))
        )
    for _ in range(4):
        one, other = (next(iterator) for iterator in iterators)
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
    for iterator in iterators:
        iterator.close()


def test_a_folder_without_packed_images_is_explained(tmp_path):
    with pytest.raises(DataError, match=r"input_pipeline\.pack"):
        image_sets.load_packed("lists", str(tmp_path))
