"""What is no image is refused in the same words by all that take images."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hybridhash_jax.retrieval.encoding.encoder import Encoder
from hybridhash_jax.retrieval.encoding.given import wrong_image, wrong_images
from hybridhash_jax.retrieval.encoding.trained import Parts
from hybridhash_jax.retrieval.index import Model
from hybridhash_jax.retrieval.model_file import ModelFile, ModelFileError
from hybridhash_jax.retrieval.model_file.facts import Facts
from input_pipeline.images.transforms import ImageTransform

PICTURE = Image.new("RGB", (4, 4))


class NoProgram:
    batch_size = 4


def encoder() -> Encoder:
    model = Model("ab", 8, "none", "float32", "cpu", {})
    program: Any = NoProgram()  # nothing comes as far as the network
    return Encoder(Parts(program, ImageTransform(8, 8), model))


def exported(monkeypatch: pytest.MonkeyPatch) -> ModelFile:
    class Program:
        fun_name = Facts(8, 8, 8, False, "ab", "float32", 10**6, False).to_name()
        platforms = ("cpu",)

        def call(self, crops: Any) -> Any:
            raise AssertionError("nothing comes as far as the network")

    module = "hybridhash_jax.retrieval.model_file.reader._deserialized"
    monkeypatch.setattr(module, lambda data: Program())
    return ModelFile(b"")


@pytest.mark.parametrize(
    ("images", "told"),
    [
        ([np.zeros((0, 50, 3), np.uint8)], r"an image has pixels; this array is \[0, 50, 3\]"),
        (
            [np.zeros((2, 2), np.uint8)],
            r"pixels are uint8 \[h, w, 3\], not uint8 \[2, 2\]",
        ),
        ([PICTURE], r"this is Image \(np\.asarray\(image\) makes an array of PIL's\)"),
        ([None], "an image is a file, or pixels .*; this is NoneType"),
        ([b"\xff\xd8\0"], "a file's name, not what is in it"),
        (PICTURE, r"must be several: \[image\] for one; this is Image"),
        (np.zeros((0, 50, 3), np.uint8), r"must be several: \[image\] for one; this is ndarray"),
        ("a.jpg", r"must be several: \['a.jpg'\] for one"),
    ],
)
def test_what_is_no_image_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, images: Any, told: str
):
    takers: list[tuple[Callable[[Any], object], type[ValueError]]]
    takers = [(encoder(), ValueError), (exported(monkeypatch), ModelFileError)]
    for take, error in takers:
        with pytest.raises(error, match=told):
            take(images)


def test_the_place_of_the_image_is_told():
    good = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(ValueError, match="image 1: an image is a file"):
        encoder()([good, PICTURE])  # pyright: ignore[reportArgumentType]


def test_images_pass():
    stack = np.zeros((5, 8, 8, 3), np.uint8)
    for images in (stack, [], stack[:0], iter(stack), np.array(["a.jpg"])):
        assert wrong_images(images) is None
    for image in (stack[0], "a.jpg", b"a.jpg"):
        assert wrong_image(image) is None
