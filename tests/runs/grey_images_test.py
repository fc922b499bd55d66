"""Runs on MNIST's grey images: pictures, codes, and the codes of the same images as files."""

import functools

import numpy as np
import pytest
from PIL import Image

from hybridhash_jax.codes.files import load_code_sets
from hybridhash_jax.retrieval.encoding.encoder import Encoder
from hybridhash_jax.run import train
from input_pipeline import datasets
from input_pipeline.sets import published
from input_pipeline.sets.mnist import FILES, read_mnist
from tests.runs.small_run import StopAt, make_config

pytestmark = pytest.mark.thorough
COUNTS = (200, 40)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Squares at ten places, a class a place."""
    monkeypatch.setattr(published, "read_mnist", functools.partial(read_mnist, counts=COUNTS))
    folder = tmp_path / "images"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for place, count in enumerate(COUNTS):
        labels = np.arange(count) % 10
        images = noise.integers(0, 90, (count, 28, 28)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 + 2 * label : 10 + 2 * label, 3:20] += 150
        for name, array in zip(FILES[2 * place : 2 * place + 2], (images, labels), strict=True):
            header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">i4").tobytes()
            (folder / name).write_bytes(header + array.astype(np.uint8).tobytes())
    return folder


# The whole network; behind kept features; larger, so that images are resized.
@pytest.mark.parametrize(
    "overrides",
    [
        {"model__image_size": 32, "model__patch_size": 8, "data__crop_padding": 2},
        {
            "model__image_size": 64,
            "model__patch_size": 16,
            "model__drop_path_rate": 0.0,
            "optimizer__frozen": ("^patch_embed/", "^levels/0/"),
        },
    ],
    ids=["32px", "features"],
)
def test_files_have_the_codes_of_the_same_images_in_memory(folder, tmp_path, overrides):
    config = make_config(
        data__name="fashion_mnist",
        data__protocol="official",
        data__dir=str(folder),
        features__dir=str(tmp_path / "features"),
        evaluation__report=True,
        batch_size=32,
        num_epochs=1,
        **overrides,
    )
    train(config, tmp_path / "run", StopAt())
    assert (tmp_path / "features").exists() == ("optimizer__frozen" in overrides)
    assert (tmp_path / "run" / "retrieval.png").exists()
    assert "T-shirt/top" in (tmp_path / "run" / "report.html").read_text()
    images = datasets.load_dataset("fashion_mnist", "official", directory=str(folder)).images
    assert isinstance(images, np.ndarray)
    query, _ = load_code_sets(str(tmp_path / "run" / "codes"))
    files = []
    assert query.rows is not None
    for row in query.rows.tolist():
        files.append(tmp_path / f"{row}.png")
        Image.fromarray(images[row, ..., 0]).save(files[-1])
    encoder = Encoder.from_workdir(tmp_path / "run")
    np.testing.assert_array_equal(encoder.packed(files), query.packed)
    assert len(np.unique(query.packed, axis=0)) > 1
    assert any("28 pixels" in note for note in encoder.notes)
