"""Encoding with padding, and saying that codes have collapsed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax import metrics, sharding
from hybridhash_jax.evaluate import (
    EncodingStopped,
    collapse_warning,
    encode_split,
    evaluate_codes,
)
from input_pipeline.loader import make_eval_batches
from input_pipeline.sources import ArraySource


def toy_encode(params, images):
    """Bit k of the code says whether pixel k of the image is bright."""
    return images[:, 0, :8, 0].astype(jnp.float32) - 127.5


def random_images(count):
    return np.random.RandomState(0).randint(0, 256, (count, 4, 8, 3)).astype(np.uint8)


@pytest.mark.parametrize(("count", "batch_size"), [(37, 16), (32, 16), (5, 16), (1, 8), (100, 8)])
def test_every_image_is_encoded_exactly_once_and_in_order(count, batch_size):
    images, labels = random_images(count), np.ones((count, 2), np.uint8)
    rows = np.random.RandomState(1).permutation(count)
    batches = make_eval_batches(ArraySource(images), labels, rows, batch_size=batch_size)
    seen = []
    codes, readable = encode_split(
        jax.jit(toy_encode), None, batches, count, sharding.make_mesh(), on_batch=seen.append
    )
    np.testing.assert_array_equal(codes, np.where(images[rows, 0, :8, 0] >= 128, 1, -1))
    assert codes.dtype == np.int8
    assert readable.shape == (count,) and readable.all()
    assert sum(seen) == count


def test_embeddings_that_are_no_numbers_are_refused_naming_the_images():
    images = random_images(20)
    batches = make_eval_batches(
        ArraySource(images), np.ones((20, 2), np.uint8), np.arange(20), batch_size=8
    )

    def encode(params, x):
        return toy_encode(params, x) + jnp.where(jnp.arange(8)[:, None] == 3, jnp.nan, 0)

    with pytest.raises(ValueError, match="images from number 0 on"):
        encode_split(jax.jit(encode), None, batches, 20, sharding.make_mesh())


def test_encoding_stops_when_asked():
    batches = make_eval_batches(
        ArraySource(random_images(20)), np.ones((20, 2), np.uint8), np.arange(20), batch_size=8
    )
    with pytest.raises(EncodingStopped):
        encode_split(
            jax.jit(toy_encode), None, batches, 20, sharding.make_mesh(), should_stop=lambda: True
        )


def codes_and_labels(count, seed):
    random = np.random.RandomState(seed)
    labels = np.eye(4, dtype=np.uint8)[random.randint(0, 4, count)]
    return np.where(random.rand(count, 8) < 0.5, -1, 1).astype(np.int8), labels


def test_the_record_holds_both_tie_rules_at_the_cut_off():
    query, database = codes_and_labels(10, 0), codes_and_labels(200, 1)
    record = evaluate_codes(*query, *database, 50)
    for ties in ("expected", "stable"):
        value = metrics.mean_average_precision(*query, *database, top_k=50, ties=ties)
        assert record[f"map_{ties}"] == value
    assert record["constant_bits"] == 0
    assert 0 <= record["bit_balance"] < 0.2


def record_of(codes):
    labels = np.eye(4, dtype=np.uint8)[np.arange(len(codes)) % 4]
    record = evaluate_codes(codes[:5], labels[:5], codes, labels, None)
    return record | {"epoch": 3.0}


def test_a_collapse_is_said_in_plain_words_with_what_to_try():
    collapsed = np.ones((100, 8), np.int8)
    collapsed[:3, 0] = -1
    message = collapse_warning(record_of(collapsed), bits=8, num_classes=4)
    assert message is not None
    for part in ("97% of the database", "7 of 8 bits never change", "only 2 codes for 4 classes",
                 "epoch 3", "--config.loss.pairs=batch", "learning_rate"):  # fmt: skip
        assert part in message


def test_stuck_bits_alone_are_noticed_and_healthy_codes_are_not():
    codes, _ = codes_and_labels(100, 2)
    assert collapse_warning(record_of(codes), bits=8, num_classes=4) is None
    codes[:, :2] = 1
    message = collapse_warning(record_of(codes), bits=8, num_classes=4)
    assert message is not None
    assert "2 of 8 bits never change" in message


def test_one_code_a_class_is_no_collapse():
    codes = np.where(np.arange(8) < 2 * np.arange(1, 5)[:, None], 1, -1).astype(np.int8)
    codes[:, 0] = [1, -1, 1, -1]
    codes[:, 1] = [-1, 1, 1, -1]
    perfect = codes[np.arange(100) % 4]
    assert collapse_warning(record_of(perfect), bits=8, num_classes=4) is None
