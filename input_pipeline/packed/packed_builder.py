"""The TFDS builder of packed data sets: what a record holds and how TFDS finds the shards.

TensorFlow is not needed, neither for writing nor for reading with `tfds.data_source`. TFDS's own
`download_and_prepare` shuffles and cannot go on where it stopped, so `packing` writes the shards
and this builder gives it the records and the metadata.
"""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.example_serializer import ExampleSerializer
from tensorflow_datasets.core.splits import SplitDict

from input_pipeline.atomic_file import write_atomically
from input_pipeline.packed.records import INFO_FILE, PACK, VERSION

# TFDS keeps the name "all" for the union of all splits; asking for that gives this one as well.
SPLIT = "images"
MEMBERSHIPS = ("in_train", "in_query", "in_database")
_FILE_FORMAT = "array_record"


class PackedImages(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A data set of one split, `images`, whose record i is image i.

    Features: `image` (encoded, of any format), `label` (uint8 [classes], multi-hot), `name` (the
    relative path), `in_train`, `in_query` and `in_database` (bool).
    """

    VERSION = tfds.core.Version(VERSION)

    def __init__(self, name: str, num_classes: int, data_dir: str | os.PathLike[str]) -> None:
        """Takes TFDS's name of the data set, the width of a label and the folder around it."""
        # TFDS takes a builder's name from its class; here one class serves every name.
        self.name = name  # pyright: ignore[reportAttributeAccessIssue]
        self.num_classes = num_classes
        super().__init__(data_dir=os.fspath(data_dir), file_format=_FILE_FORMAT)

    def _info(self) -> tfds.core.DatasetInfo:
        features: dict[str, Any] = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.Tensor(shape=(self.num_classes,), dtype=np.uint8),
            "name": tfds.features.Text(),
        }
        features |= {key: np.bool_ for key in MEMBERSHIPS}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> Any:
        del dl_manager
        raise NotImplementedError(f"packed data sets are made by {PACK}")

    def _generate_examples(self) -> Any:
        raise NotImplementedError(f"packed data sets are made by {PACK}")


class RecordEncoder:
    """Makes the records of one data set."""

    def __init__(self, builder: PackedImages) -> None:
        """Takes the builder that defines the features."""
        self._features: Any = builder.info.features
        self._serializer = ExampleSerializer(self._features.get_serialized_info())

    def encode(self, image: bytes, label: np.ndarray, name: str, member: Sequence[bool]) -> bytes:
        """One serialized record; equal arguments give equal bytes.

        Args:
          image: the encoded image.
          label: uint8 [classes].
          name: its relative path.
          member: whether it is in train, query and database.
        """
        example = {"image": io.BytesIO(image), "label": label, "name": name}
        example |= dict(zip(MEMBERSHIPS, map(bool, member), strict=True))
        encoded = self._features.encode_example(example)
        # The order of a message's map entries is otherwise free.
        return self._serializer.get_tf_example(encoded).SerializeToString(deterministic=True)


def shard_name(name: str, shard: int, num_shards: int) -> str:
    """TFDS's file name of one shard."""
    return f"{name}-{SPLIT}.{_FILE_FORMAT}-{shard:05d}-of-{num_shards:05d}"


def write_metadata(
    builder: PackedImages, directory: Path, shard_lengths: Sequence[int], num_bytes: int
) -> None:
    """Writes TFDS's `features.json` and, last and at once, `dataset_info.json`.

    Args:
      builder: of the data set.
      directory: where the shards are, complete.
      shard_lengths: records in each.
      num_bytes: of all shards together.

    Raises:
      DataError, OSError: if they cannot be written.
    """
    split = tfds.core.SplitInfo(
        name=SPLIT, shard_lengths=[int(length) for length in shard_lengths], num_bytes=num_bytes
    )
    builder.info.set_splits(SplitDict([split]))
    features: Any = builder.info.features
    features.save_config(os.fspath(directory))
    write_atomically(directory / INFO_FILE, f"{builder.info.as_json}\n".encode())
