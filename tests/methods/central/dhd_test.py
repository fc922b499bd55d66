"""DHD: its three losses and all gradients of its authors, and outputs at the end of their range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.methods.central.dhd import DHD, distillation_loss, proxy_loss, quantization_loss
from hybridhash_jax.methods.method import Examples
from tests.methods.central import golden

GOLDEN = golden.load("DHD")
CASES = pytest.mark.parametrize("case", [f"{kind}{number}" for kind in "sm" for number in range(3)])


@golden.both_types
@CASES
def test_loss_and_all_gradients_equal_the_authors_code(case, dtype):
    labels = jnp.asarray(GOLDEN[f"{case}_y"], jnp.float32)

    def loss(teacher, student, proxies):
        examples = Examples(
            labels,
            labels,
            golden.whole(labels),
            jnp.arange(len(labels)),
            {"proxies": proxies},
            second=student,
        )
        return DHD().loss(teacher, examples, None, jnp.zeros((), jnp.int32))[0]

    golden.check(
        loss,
        [GOLDEN[f"{case}_xt"], GOLDEN[f"{case}_xs"], GOLDEN["P"]],
        GOLDEN[f"{case}_loss"],
        [GOLDEN[f"{case}_grad_{name}"] for name in ("xt", "xs", "P")],
        dtype,
    )


@CASES
def test_each_term_equals_the_authors_code(case):
    with jax.enable_x64(True):
        teacher, student, labels = (jnp.asarray(GOLDEN[f"{case}_{n}"]) for n in ("xt", "xs", "y"))
        proxies, mask = jnp.asarray(GOLDEN["P"]), golden.whole(teacher)
        ours = (
            proxy_loss(teacher, labels, mask, proxies, temperature=0.2),
            0.1 * distillation_loss(student, teacher, mask),
            0.1 * quantization_loss(teacher, mask),
        )
        stored = [GOLDEN[f"{case}_loss_{name}"] for name in ("proxy", "distill", "bce")]
        np.testing.assert_allclose(ours, stored, rtol=1e-9)


def test_outputs_of_one_cost_nothing_infinite():
    outputs = jnp.asarray([[1.0, -1.0, 0.0, 1e-30]])
    value, gradient = jax.value_and_grad(quantization_loss)(outputs, jnp.ones(1, bool))
    assert np.isfinite(value) and np.isfinite(gradient).all()
    at_end = quantization_loss(outputs[:, :2], jnp.ones(1, bool))
    np.testing.assert_allclose(at_end, -np.log1p(-np.exp(-8.0)), rtol=1e-5)


def test_its_proxies_are_drawn_from_the_key():
    proxies = DHD().init_parameters(10, 32, jax.random.key(0))["proxies"]
    limit = 5 / 3 * (6 / 42) ** 0.5
    assert 0.95 * limit < np.abs(proxies).max() <= limit
