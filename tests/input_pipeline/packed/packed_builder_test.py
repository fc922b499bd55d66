"""TFDS reads what we pack by its own means, without TensorFlow."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets
from PIL import Image

from input_pipeline.packed.packed_builder import PackedImages, RecordEncoder, shard_name
from tests.input_pipeline.packed.packed_sets import Images

tfds: Any = tensorflow_datasets  # its decorators hide the signatures from type checkers


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    """The folder around one packed data set."""
    out = tmp_path_factory.mktemp("out")
    Images().pack(out)
    return out


def check_source(source, images: Images) -> None:
    assert len(source) == 9
    for i, row in enumerate(images.order):
        record = source[i]
        assert record["image"] == images.files[row]
        assert record["name"].decode() == images.names[row]
        np.testing.assert_array_equal(record["label"], images.labels[row], strict=True)
        for split in ("train", "query", "database"):
            assert record[f"in_{split}"] == (row in getattr(images.splits, split))


@pytest.mark.parametrize("split", ["all", "images"])
@pytest.mark.parametrize("name", ["things", "things:1.0.0"])
def test_data_source_finds_a_data_set_by_its_name(packed, name, split):
    skip = {"image": tfds.decode.SkipDecoding()}
    source = tfds.data_source(name, split=split, data_dir=packed, decoders=skip)
    check_source(source, Images())
    assert "tensorflow" not in sys.modules


def test_a_builder_from_the_directory_reads_every_feature(packed):
    builder = tfds.builder_from_directory(packed / "things" / "1.0.0")
    skip = {"image": tfds.decode.SkipDecoding()}
    check_source(builder.as_data_source("all", decoders=skip), Images())
    assert builder.info.splits["images"].shard_lengths == [4, 4, 1]
    assert len(builder.as_data_source("images[2:5]")) == 3


def test_tfds_decodes_the_images_itself(packed):
    source = tfds.data_source("things", split="all", data_dir=packed)
    images = Images()
    for i, row in enumerate(images.order):
        pixels = source[i]["image"]
        assert pixels.dtype == np.uint8
        image = Image.open(io.BytesIO(images.files[row]))
        if image.mode == "RGB":
            np.testing.assert_array_equal(pixels, np.asarray(image))


def test_a_name_that_tfds_uses_too_needs_its_version(tmp_path):
    Images().pack(tmp_path, name="coco")
    source = tfds.data_source("coco:1.0.0", split="all", data_dir=tmp_path)
    assert len(source) == 9


def test_an_unfinished_pack_is_no_data_set_for_tfds(tmp_path):
    summary = Images().pack(tmp_path)
    (summary.directory / "dataset_info.json").unlink()
    with pytest.raises(Exception, match=r"dataset_info|not found|Could not"):
        tfds.builder_from_directory(summary.directory)


def test_our_own_builder_describes_the_same_data_set(packed):
    builder: Any = PackedImages("things", 3, packed)
    assert builder.info.splits["images"].num_examples == 9
    skip = {"image": tfds.decode.SkipDecoding()}
    check_source(builder.as_data_source("all", decoders=skip), Images())


def test_it_cannot_prepare_anything_but_says_what_can(tmp_path):
    with pytest.raises(NotImplementedError, match="input_pipeline.pack"):
        PackedImages("other", 3, tmp_path).download_and_prepare()


def test_equal_images_give_equal_records(tmp_path):
    arguments = (b"bytes", np.array([0, 1, 1], np.uint8), "a/ü.jpg", [True, False, True])
    first, second = (
        RecordEncoder(PackedImages(name, 3, tmp_path)).encode(*arguments) for name in "ab"
    )
    assert first == second
    keys = (b"image", b"in_database", b"in_query", b"in_train", b"label", b"name")
    assert sorted(keys, key=first.index) == list(keys), "in an order that does not vary"


def test_shards_are_named_as_tfds_does():
    assert shard_name("coco", 3, 60) == "coco-images.array_record-00003-of-00060"
