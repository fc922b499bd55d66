"""From the configuration's data fields to transforms."""

import dataclasses
import types

import numpy as np
import pytest
from PIL import Image

from configs import embeddings, folder
from hybridhash_jax.config_fields import ConfigError
from hybridhash_jax.image_sources import (
    check_enough,
    check_headers,
    create_dataset,
    create_sources,
    fitting_batches,
    training_rows,
)
from hybridhash_jax.methods import Classification
from input_pipeline.dataset import Dataset, one_hot
from input_pipeline.errors import DataError
from input_pipeline.images.decode import DecodeOptions
from input_pipeline.images.encoded import EncodedImages, FileReader
from input_pipeline.images.transforms import ImageTransform
from input_pipeline.sources import ArraySource, DecodedSource
from input_pipeline.splits import Splits
from tests.runs.small_run import make_config

NAMES = ("a.jpg",)


@dataclasses.dataclass
class Images:
    """The one field of a data set that is looked at."""

    images: np.ndarray | EncodedImages


def files(resized: int | None = None) -> Images:
    return Images(EncodedImages(NAMES, FileReader(".", NAMES), resized))


def config_with(**data):
    config = folder.get_config()
    config.data.update(data)
    return config


def test_arrays_go_to_the_device_as_they_are():
    array = np.zeros((3, 8, 8, 3), np.uint8)
    sources = create_sources(Images(array), make_config(), 16)  # pyright: ignore
    assert sources.in_memory and not sources.names
    assert isinstance(sources.train, ArraySource) and sources.train.array is array


def test_vectors_go_to_the_device_as_they_are(tmp_path):
    """From the configuration's files to the rows of a batch."""
    array = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float16)
    names = [f"{i}.jpg" for i in range(40)]
    np.savez(tmp_path / "x.npz", embeddings=array, labels=np.arange(40) % 2, names=names)
    config = embeddings.get_config()
    config.data.embeddings = str(tmp_path / "x.npz")
    config.data.train_per_class = 7
    dataset = create_dataset(config)
    check_headers(dataset, config)
    check_enough(dataset, 14, searches=True)
    sources = create_sources(dataset, config, 5)
    assert sources.in_memory and list(sources.names) == names
    assert sources.train is sources.evaluation
    batch, reasons = sources.train.images(np.array([3, -1]), None)
    assert batch.dtype == np.float16 and not reasons
    np.testing.assert_array_equal(batch, [array[3], np.zeros(5)])


@pytest.mark.parametrize(
    ("make", "field", "value"),
    [
        (embeddings.get_config, "horizontal_flip", True),
        (embeddings.get_config, "crop_padding", 4),
        (embeddings.get_config, "resize", 100),
        (embeddings.get_config, "lists", "lists"),
        (folder.get_config, "labels", "labels.npy"),
        (make_config, "embeddings", "x.npy"),
    ],
)
def test_fields_of_images_and_of_vectors_are_told_apart(make, field, value):
    config = make()
    config.data.update({field: value})
    with pytest.raises(ConfigError, match=f"data.{field}=.* means nothing for data.name="):
        create_dataset(config)


def test_files_are_transformed_as_the_fields_say():
    config = config_with(
        resize=40, horizontal_flip=True, random_area=(0.5, 1.0), num_workers=3,
        allow_truncated=True, apply_orientation=True, max_pixels=123,
    )  # fmt: skip
    sources = create_sources(files(), config, 32)  # pyright: ignore
    assert isinstance(sources.train, DecodedSource)
    assert isinstance(sources.evaluation, DecodedSource)
    options = DecodeOptions(allow_truncated=True, max_pixels=123, apply_orientation=True)
    assert sources.train.transform == ImageTransform(32, 40, True, (0.5, 1.0), options)
    assert sources.evaluation.transform == ImageTransform(32, 40, False, None, options)
    assert sources.train.num_workers == 3
    assert sources.names == NAMES
    sources.close()


@pytest.mark.parametrize(
    ("data", "resized", "why"),
    [
        ({"crop_padding": 4}, None, "crop_padding=4 is for images in memory"),
        ({"resize": 300}, 256, "packed with a shorter side of 256.*resize=256"),
        ({"apply_orientation": True}, 256, "packed with apply_orientation=False"),
        ({"resize": 31}, None, "data.resize must be at least the network's image size"),
    ],
)
def test_fields_that_do_not_fit_are_explained(data, resized, why):
    with pytest.raises(ValueError, match=why) as caught:
        create_sources(files(resized), config_with(**data), 32)  # pyright: ignore
    assert isinstance(caught.value, ConfigError) or data == {"resize": 31}


@pytest.mark.parametrize(("padding", "fits"), [(7, True), (8, False)])
def test_crops_of_arrays_hold_something_of_the_image(padding, fits):
    images, config = Images(np.zeros((2, 8, 9, 3), np.uint8)), config_with(crop_padding=padding)
    if fits:
        assert create_sources(images, config, 32).in_memory  # pyright: ignore
        return
    with pytest.raises(ConfigError, match="crop_padding=8 would leave crops with nothing"):
        create_sources(images, config, 32)  # pyright: ignore


def data_set(names, reader, rows, classes=2):
    splits = Splits(*(np.array(part, np.int64) for part in rows))
    labels = one_hot(np.arange(len(names)) % classes, classes)
    return Dataset(
        "lists", "lists", tuple(map(str, range(classes))), EncodedImages(names, reader), labels,
        splits, None, "made here", None, "0",
    )  # fmt: skip


@pytest.fixture
def photographs(tmp_path):
    names = [f"images/{i}.png" for i in range(8)]
    (tmp_path / "images").mkdir()
    for i, name in enumerate(names):
        Image.fromarray(np.full((9, 9, 3), i, np.uint8)).save(tmp_path / name)
    rows = ([0, 1, 2, 3], [4, 5], [6, 7])
    return tmp_path, data_set(names, FileReader(str(tmp_path), names), rows)


def config_of_files(directory, **data):
    config = folder.get_config()
    config.data.update({"dir": str(directory)} | data)
    return config


def test_broken_files_are_found_before_the_first_step(photographs, caplog):
    directory, dataset = photographs
    check_headers(dataset, config_of_files(directory))
    (directory / "images/5.png").write_bytes(b"no image")
    (directory / "images/7.png").unlink()
    with pytest.raises(DataError) as refused:
        check_headers(dataset, config_of_files(directory))
    for part in ("2 images of 8 cannot be used", "images/5.png: ", "images/7.png: ",
                 "--config.data.on_unreadable=skip"):  # fmt: skip
        assert part in str(refused.value)
    check_headers(dataset, config_of_files(directory, on_unreadable="skip"))


def test_a_wrong_folder_is_said_once_with_the_one_that_fits(photographs):
    directory, dataset = photographs
    wrong = directory / "images"
    images = EncodedImages(dataset.images.names, FileReader(str(wrong), dataset.images.names))
    elsewhere = dataclasses.replace(dataset, images=images)
    with pytest.raises(DataError, match=f"8 of 8 images .*{directory} has images/0.png"):
        check_headers(elsewhere, config_of_files(wrong, on_unreadable="skip"))


@pytest.mark.parametrize(
    ("rows", "classes", "batch_size", "why"),
    [
        (([0, 1], [2], []), 2, 2, "the database split .* has no images .train 2, query 1, data"),
        (([0, 1], [], [2]), 2, 2, "the query split .* has no images"),
        (([0, 1], [2], [3]), 1, 2, "have 1 class, and two are needed"),
        (([0, 2], [1], [3]), 2, 2, "have 1 class, and two are needed"),
        (([0, 1], [2], [3]), 2, 3, "batch_size=3 is more than the 2 training images"),
    ],
)
def test_a_data_set_that_a_run_can_make_nothing_of_is_refused(rows, classes, batch_size, why):
    names = [f"{i}.png" for i in range(4)]
    dataset = data_set(names, FileReader(".", names), rows, classes)
    with pytest.raises(ValueError, match=why):
        check_enough(dataset, batch_size, searches=True)


def test_a_classifier_needs_no_database():
    names = [f"{i}.png" for i in range(4)]
    dataset = data_set(names, FileReader(".", names), ([0, 1], [2, 3], []))
    check_enough(dataset, 2, searches=False)


def test_a_classifier_trains_on_the_training_images():
    names = [f"{i}.png" for i in range(4)]
    dataset = data_set(names, FileReader(".", names), ([0, 1], [2, 3], []))
    rows, held_out = training_rows(make_config(batch_size=2), Classification(), dataset)
    assert rows.tolist() == [0, 1] and not len(held_out)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"name": "digits", "protocol": "digits", "source": "archive", "query_per_class": 3},
         "data.query_per_class=3 means nothing for data.name=digits"),
        ({"lists": "x"}, "data.lists='x' means nothing for data.name=folder"),
        ({"dir": "/nowhere/at/all"}, "data.dir=/nowhere/at/all: there is no such folder"),
        ({"name": "arrays", "protocol": "arrays", "source": "arrays", "dir": "gs://b/x",
          "resize": 256},
         "data.dir=gs://b/x: data.source=arrays is read from a folder"),
        ({"splits": "kept"}, "data.splits='kept' is for a workdir that has kept"),
    ],
)  # fmt: skip
def test_data_fields_are_checked_before_anything_is_read(tmp_path, data, why):
    with pytest.raises((ConfigError, DataError), match=why):
        create_dataset(config_of_files(tmp_path, **data))


@pytest.mark.parametrize(
    ("images", "given", "devices", "taken"),
    [
        (200, 128, 1, 128),
        (200, 1024, 1, 1024),  # as it was before: codes may differ in a bit by the batch's size
        (200, 10**6, 1, 1024),
        (2000, 1998, 1, 1998),
        (2000, 10**6, 1, 2000),
        (2001, 10**6, 8, 2008),
    ],
)
def test_a_batch_that_the_images_cannot_fill_is_smaller(images, given, devices, taken):
    rows = np.arange(images)
    dataset = types.SimpleNamespace(splits=Splits(rows[:10], rows[:20], rows))
    config = make_config(evaluation__batch_size=given)
    fitting = fitting_batches(config, dataset, devices)  # pyright: ignore
    assert (fitting.evaluation.batch_size, config.evaluation.batch_size) == (taken, given)
