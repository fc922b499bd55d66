"""Reads CIFAR-10 that TensorFlow Datasets has already prepared. TensorFlow is not needed."""

import importlib.metadata
from typing import Any

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.sets.pooled import PooledImages

_BUILDER_OPTIONS = {"file_format": "array_record"}
_PREPARE = (
    "prepare it once, where TensorFlow is installed, with `tfds build cifar10 "
    "--file_format=array_record --data_dir=FOLDER` and give --config.data.dir=FOLDER, or use "
    "the official archive (source 'archive')"
)


def read_cifar10_tfds(directory: str | None) -> PooledImages:
    """Pools the train and test images in TFDS's `data_dir` (None: its default).

    TFDS shuffles when it prepares, but keeps each image's number in "id"; sorting by it gives
    the archive's order, and so the archive's splits and checksum.
    """
    examples = [x for source in _open(directory) for x in _sorted_examples(source)]
    version = importlib.metadata.version("tensorflow-datasets")
    return PooledImages(
        images=np.stack([np.asarray(example["image"], np.uint8) for example in examples]),
        class_ids=np.array([example["label"] for example in examples], np.int64),
        provenance=f"CIFAR-10 as prepared by TensorFlow Datasets (read with version {version})",
        official=None,  # TFDS's files carry no published MD5
    )


def _open(directory: str | None) -> Any:
    where = directory or "TFDS's default folder"
    try:
        import tensorflow_datasets as tfds  # imported late: it takes a second

        sources = tfds.data_source(
            "cifar10",
            split=["train", "test"],
            data_dir=directory,
            download=False,
            builder_kwargs=_BUILDER_OPTIONS,
        )
    except ImportError as error:
        raise DataError(
            f"cannot import tensorflow-datasets ({error}); install requirements.txt, or use the "
            "official archive (source 'archive')"
        ) from error
    except Exception as error:  # TFDS raises KeyError, AssertionError and others for this
        raise DataError(
            f"no CIFAR-10 prepared as array_record in {where} ({error}); {_PREPARE}"
        ) from error
    return sources


def _sorted_examples(source: Any) -> list[dict[str, Any]]:
    try:
        examples = [source[i] for i in range(len(source))]
        return sorted(examples, key=lambda example: example["id"])
    except Exception as error:  # array_record and the image decoder each have their own
        raise DataError(
            f"a CIFAR-10 file prepared by TFDS cannot be read ({error}); {_PREPARE}"
        ) from error
