"""The TFDS builder of packed data sets: what a record holds and how TFDS finds the shards.

TFDS's own `download_and_prepare` shuffles and cannot go on where it stopped, so `packing` writes
the shards; this builder gives it records and metadata. TensorFlow is not needed.
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
        # TFDS takes a builder's name from its class; here one class serves every name.
        self.name = name  # pyright: ignore[reportAttributeAccessIssue]
        self.num_classes = num_classes
        super().__init__(data_dir=os.fspath(data_dir), file_format=_FILE_FORMAT)
        features: Any = self.info.features
        self._serializer = ExampleSerializer(features.get_serialized_info())

    def _info(self) -> tfds.core.DatasetInfo:
        features: dict[str, Any] = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.Tensor(shape=(self.num_classes,), dtype=np.uint8),
            "name": tfds.features.Text(),
        }
        features |= {key: np.bool_ for key in MEMBERSHIPS}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> Any:
        raise NotImplementedError(f"packed data sets are made by {PACK}")

    def _generate_examples(self) -> Any:
        raise NotImplementedError(f"packed data sets are made by {PACK}")

    def encode(self, image: bytes, label: np.ndarray, name: str, member: Sequence[bool]) -> bytes:
        """One serialized record; equal arguments give equal bytes.

        `label` is uint8 [classes]; `member` says whether it is in train, query and database.
        """
        example = {"image": io.BytesIO(image), "label": label, "name": name}
        example |= dict(zip(MEMBERSHIPS, map(bool, member), strict=True))
        features: Any = self.info.features
        encoded = self._serializer.get_tf_example(features.encode_example(example))
        # The order of a message's map entries is otherwise free.
        return encoded.SerializeToString(deterministic=True)

    def write_metadata(self, directory: Path, shard_lengths: Sequence[int], num_bytes: int) -> None:
        """Writes TFDS's `features.json` and, last and at once, `dataset_info.json`."""
        lengths = [int(length) for length in shard_lengths]
        split = tfds.core.SplitInfo(name=SPLIT, shard_lengths=lengths, num_bytes=num_bytes)
        self.info.set_splits(SplitDict([split]))
        features: Any = self.info.features
        features.save_config(os.fspath(directory))
        write_atomically(directory / INFO_FILE, f"{self.info.as_json}\n".encode())


def shard_name(name: str, shard: int, num_shards: int) -> str:
    """TFDS's file name of one shard."""
    return f"{name}-{SPLIT}.{_FILE_FORMAT}-{shard:05d}-of-{num_shards:05d}"
