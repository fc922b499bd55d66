"""HyP2: losses and gradients of its authors, and their table of cosines."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.methods.central.hyp2 import HyP2, best_distance, hybrid_loss, zeta_of
from tests.methods.central import golden

GOLDEN = golden.load("HyP2")
SETTINGS = {"a": (0.5, 0.0), "b": (0.5, 0.25), "c": (0.0, 1 / 3)}  # beta and zeta


@golden.both_types
@pytest.mark.parametrize("number", ["0", "1", "2", "s"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_loss_and_both_gradients_equal_the_authors_code(setting, number, dtype):
    name = setting + number
    labels = jnp.asarray(GOLDEN[f"{name}_y"], jnp.float32)
    beta, zeta = SETTINGS[setting]
    bits, classes = GOLDEN[f"{name}_x"].shape[1], labels.shape[1]
    np.testing.assert_allclose(zeta_of(bits, classes), zeta, atol=1e-12)
    golden.check(
        lambda x, p: hybrid_loss(x, labels, golden.whole(x), p, zeta=zeta, beta=beta),
        [GOLDEN[f"{name}_x"], GOLDEN[f"{setting}_proxies"]],
        GOLDEN[f"{name}_loss"],
        [GOLDEN[f"{name}_grad"], GOLDEN[f"{name}_gradP"]],
        dtype,
    )


def test_zeta_and_least_distances_are_those_of_the_authors_code_table():
    table = json.loads((golden.FOLDER / "HyP2_zeta.json").read_text())
    compared = 0
    for classes, lengths in table.items():
        for bits, entry in lengths.items():
            assert zeta_of(int(bits), int(classes)) == pytest.approx(entry["zeta"], abs=1e-12)
            compared += 1
    assert compared == 56


# Hamming's code, extended and not; repetition; Reed and Muller's of first order.
@pytest.mark.parametrize(
    ("bits", "dimension", "distance"), [(7, 4, 3), (8, 4, 4), (16, 1, 16), (16, 5, 8)]
)
def test_known_codes_have_their_distance(bits, dimension, distance):
    assert best_distance(bits, dimension) == distance


@pytest.mark.parametrize(("bits", "classes"), [(1, 1), (16, 1), (8, 10_000), (64, 10_000)])
def test_every_length_has_a_cosine(bits, classes):
    assert -1 <= zeta_of(bits, classes) < 1


def test_its_proxies_are_drawn_from_the_key():
    proxies = HyP2().init_parameters(50, 64, jax.random.key(0))["proxies"]
    assert proxies.shape == (50, 64)
    np.testing.assert_allclose(np.std(proxies), 0.2, rtol=0.1)
