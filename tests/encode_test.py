"""Encoding a split: padding, packing on the devices, and embeddings that are no numbers."""

import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax import codes
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.encode import EvaluationStopped, NotANumberError, compile_encode, encode_split
from input_pipeline.loader import make_eval_batches
from input_pipeline.sources import ArraySource

BITS = 11


def toy_embed(params, images):
    """Bit k of the code says whether pixel k of the image is bright."""
    return images[:, 0, :BITS, 0].astype(jnp.float32) - 127.5


def random_images(count):
    return np.random.RandomState(0).randint(0, 256, (count, 4, BITS, 3)).astype(np.uint8)


def batches_of(images, rows, batch_size):
    labels = np.ones((len(images), 2), np.uint8)
    return make_eval_batches(ArraySource(images), labels, rows, batch_size=batch_size)


def encode(images, embed=toy_embed, batch_size=8, rows=None, **more):
    rows = np.arange(len(images)) if rows is None else rows
    mesh = sharding.make_mesh()
    names = [f"image {row}" for row in rows]
    return encode_split(
        compile_encode(embed, mesh), None, batches_of(images, rows, batch_size), names, mesh, **more
    )


@pytest.mark.parametrize(("count", "batch_size"), [(37, 16), (32, 16), (5, 16), (1, 8), (100, 8)])
def test_every_image_is_encoded_exactly_once_and_in_order(count, batch_size):
    images, seen = random_images(count), []
    rows = np.random.RandomState(1).permutation(count)
    packed, readable = encode(images, batch_size=batch_size, rows=rows, on_batch=seen.append)
    np.testing.assert_array_equal(packed, codes.pack(images[rows, 0, :BITS, 0] >= 128))
    assert packed.dtype == np.uint8
    assert readable.shape == (count,) and readable.all()
    assert sum(seen) == count


def test_zeros_of_either_sign_and_infinities_have_the_signs_of_binarize():
    values = np.array([0.0, -0.0, np.inf, -np.inf, 1e-37, -1e-37, 3, -3] * 4, np.float32)[None]

    def embed(params, images):
        return jnp.broadcast_to(values, (len(images), values.shape[1]))

    packed, _ = encode(random_images(3), embed)
    np.testing.assert_array_equal(packed[:1], codes.pack(codes.binarize(values)))


def test_only_packed_codes_leave_the_devices():
    mesh = sharding.make_mesh()
    encoded = compile_encode(toy_embed, mesh)(None, jnp.asarray(random_images(16)))
    assert [(part.shape, part.dtype) for part in encoded] == [((16, 2), jnp.uint8), ((16,), bool)]
    assert all(part.sharding.is_fully_replicated for part in encoded)


def test_embeddings_that_are_no_numbers_are_counted_and_named():
    def embed(params, images):
        return toy_embed(params, images) + jnp.where(images[:, :1, 0, 0] % 3 == 0, jnp.nan, 0)

    images = random_images(100)
    bad = np.flatnonzero(images[:, 0, 0, 0] % 3 == 0)
    with pytest.raises(NotANumberError) as error:
        encode(images, embed)
    message = str(error.value)
    assert f"{len(bad)} of 100 images" in message
    assert ", ".join(f"image {row}" for row in bad[:5]) + f" and {len(bad) - 5} more" in message
    assert "model.dtype=float32" in message


def test_padding_that_is_no_number_is_no_error():
    def embed(params, images):
        blank = (images == 0).all(axis=(1, 2, 3))
        return toy_embed(params, images) + jnp.where(blank[:, None], jnp.nan, 0)

    packed, _ = encode(random_images(5), embed)
    assert len(packed) == 5


def test_encoding_stops_when_asked():
    with pytest.raises(EvaluationStopped):
        encode(random_images(20), should_stop=lambda: True)
