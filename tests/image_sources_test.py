"""From the configuration's data fields to transforms."""

import dataclasses

import numpy as np
import pytest

from configs import folder
from hybridhash_jax.config_rules import ConfigError
from hybridhash_jax.image_sources import create_sources
from input_pipeline.images.decode import DecodeOptions
from input_pipeline.images.encoded import EncodedImages, FileReader
from input_pipeline.images.transforms import ImageTransform
from input_pipeline.sources import ArraySource, DecodedSource
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
