"""CIFAR-10 prepared by TFDS is the same data as the archive, read without TensorFlow."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from input_pipeline.errors import DataError
from input_pipeline.sets.cifar10_tfds import read_cifar10_tfds

TRAIN = 50
IMAGES = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
CLASS_IDS = np.random.default_rng(1).integers(0, 10, 60)


def prepare_tfds(root: Path) -> None:
    """Prepares a small data set of TFDS's `cifar10` form, without TensorFlow."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    def png(image: np.ndarray) -> io.BytesIO:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        file.seek(0)
        return file

    with registered.skip_registration():

        class Cifar10(tfds.core.GeneratorBasedBuilder):
            name = "cifar10"
            VERSION = tfds.core.Version("3.0.2")

            def _info(self):
                image = tfds.features.Image(shape=(32, 32, 3))
                label = tfds.features.ClassLabel(num_classes=10)
                features = {"id": tfds.features.Text(), "image": image, "label": label}
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, dl_manager):
                del dl_manager
                return {
                    "train": self._generate_examples("train", 0, TRAIN),
                    "test": self._generate_examples("test", TRAIN, len(IMAGES)),
                }

            def _generate_examples(self, prefix, start, stop):
                for i in range(start, stop):
                    number = i - start
                    yield (
                        number,
                        {
                            "id": f"{prefix}_{number:05d}",
                            "image": png(IMAGES[i]),
                            "label": int(CLASS_IDS[i]),
                        },
                    )

    builder = Cifar10(data_dir=root, file_format="array_record")
    builder.download_and_prepare()


def test_tfds_gives_the_archives_images_in_the_archives_order(tmp_path):
    prepare_tfds(tmp_path)
    pooled = read_cifar10_tfds(str(tmp_path))
    np.testing.assert_array_equal(pooled.images, IMAGES, strict=True)
    np.testing.assert_array_equal(pooled.class_ids, CLASS_IDS, strict=True)
    assert pooled.official is None
    assert "TensorFlow Datasets" in pooled.provenance


def test_tfds_without_prepared_files_says_how_to_prepare_them(tmp_path):
    with pytest.raises(DataError, match="tfds build cifar10 --file_format=array_record") as caught:
        read_cifar10_tfds(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
