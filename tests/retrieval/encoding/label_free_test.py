"""Codes without labels: fitted to a sample, kept in the index, made again from there."""

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
from flax import nnx

from hybridhash_jax import models
from hybridhash_jax.methods.unsupervised import ITQ
from hybridhash_jax.parameters import by_path
from hybridhash_jax.retrieval.encoding import label_free, making
from hybridhash_jax.retrieval.encoding.encoder import Encoder
from hybridhash_jax.retrieval.encoding.errors import EncoderError
from hybridhash_jax.retrieval.encoding.request import Request
from hybridhash_jax.retrieval.index import IndexFileError, create_index, open_index
from input_pipeline.images.transforms import ImageTransform
from tests.retrieval.encoding.fakes import FakeEncoder

program_of = functools.cache(label_free.create_program)


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    """A thin, untrained one at 32 pixels in place of the published."""

    def build(weights, bits):
        options = {
            "head": "hybridhash",
            "head_kind": "linear",
            "outputs": bits,
            "width": 0.25,
            "depth": 0.1,
        }
        return models.create_network(weights, rngs=nnx.Rngs(1), image_size=32, **options)

    monkeypatch.setattr(label_free, "_network", build)
    # Compiled once for all tests.
    monkeypatch.setattr(label_free, "create_program", program_of)
    monkeypatch.setattr(label_free, "transform_of", lambda weights: ImageTransform(32, 32))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 32, 40, 3), np.uint8)


@pytest.mark.slow
def test_codes_are_those_of_itq_and_are_made_again_from_the_index(images, tmp_path):
    encoder = Encoder.unsupervised(images, 16)
    codes = encoder(images)
    program = encoder.program
    crops = images[:, :, 4:36]
    features = np.concatenate([program.features(crops[i : i + 16]) for i in (0, 16, 32)])
    features = features.astype(np.float32)
    norm = {name: np.asarray(x) for name, x in by_path(program.params).items()}
    normal = (features - norm["feature_norm/mean"]) / norm["feature_norm/deviation"]
    kernel, bias = ITQ().fit(normal, 16)
    values = normal @ kernel + bias
    clear = np.abs(values) > 1e-3
    np.testing.assert_array_equal((codes > 0)[clear], (values >= 0)[clear])
    assert clear.mean() > 0.95 and 0.3 < (codes > 0).mean() < 0.7

    index = tmp_path / "x.idx"
    create_index(index, encoder.model, tmp_path, encoder.files)
    with open_index(index) as opened:
        again = Encoder.from_index(opened)
    assert again.model == encoder.model
    np.testing.assert_array_equal(again(images[5:30]), codes[5:30])

    other = dataclasses.replace(encoder.model, fingerprint="other")
    create_index(tmp_path / "y.idx", other, tmp_path, encoder.files)
    with (
        open_index(tmp_path / "y.idx") as opened,
        pytest.raises(EncoderError, match="other.*codes of two models"),
    ):
        Encoder.from_index(opened)
    (index / "files" / "encoder.npz").write_bytes(b"x")
    with open_index(index) as opened, pytest.raises(IndexFileError, match="damaged"):
        Encoder.from_index(opened)


@pytest.mark.slow
def test_the_sample_is_drawn_by_the_seed(images, monkeypatch):
    monkeypatch.setattr(label_free, "SAMPLE", 30)
    models_ = [Encoder.unsupervised(images, 16, seed=seed).model for seed in (0, 0, 1)]
    assert models_[0] == models_[1]
    assert models_[0].fingerprint != models_[2].fingerprint
    assert "fitted to 30 images" in models_[0].name
    assert models_[2].source["seed"] == 1


def test_the_seed_that_is_asked_for_is_taken(tmp_path, monkeypatch):
    asked: list[int] = []

    def unsupervised(files, bits, seed, **options):
        asked.append(seed)
        return FakeEncoder()

    monkeypatch.setattr(Encoder, "unsupervised", unsupervised)
    monkeypatch.setattr(making, "keep_programs", lambda workdir: None)
    paths: Any = [b"a.png"] * 40
    for seed in (None, 7):
        request = Request(str(tmp_path), tmp_path / "x.idx", bits=16, seed=seed)
        making.new_encoder(request, tmp_path, paths, lambda line: None)
    assert asked == [0, 7]


def test_too_few_images_for_the_bits_are_told_with_what_would_do(images, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"")
    some = [*images[:16], tmp_path / "broken.jpg"]
    with pytest.raises(EncoderError, match="16 bits .* at least 17 .* are 16: give --bits=8,"):
        Encoder.unsupervised(some, 16)
    assert Encoder.unsupervised(images[:17], 16).model.bits == 16
    with pytest.raises(EncoderError, match="and here are 0: give more images"):
        Encoder.unsupervised([tmp_path / "broken.jpg"], 16)
    with pytest.raises(EncoderError, match="the features of 20 .* are all the same"):
        Encoder.unsupervised([images[0]] * 20, 16)
    with pytest.raises(EncoderError, match="weights='resnet50'; accepted: efficientnet_lite0"):
        Encoder.unsupervised(images, weights="resnet50")
