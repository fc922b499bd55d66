"""The moving average against its definition, written as a loop."""

import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.state import decay_at, update_average


def test_the_average_follows_its_definition():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 3))
    average, expected = {"a": jnp.asarray(values[0], jnp.float32)}, values[0]
    for step, value in enumerate(values[1:]):
        average = update_average(average, {"a": jnp.asarray(value)}, jnp.asarray(step), 0.7)
        decay = min(0.7, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    np.testing.assert_allclose(average["a"], expected, rtol=1e-5)


@pytest.mark.parametrize(("step", "decay"), [(0, 0.1), (90, 0.91), (10**6, 0.99)])
def test_the_decay_rises_to_what_was_asked_for(step, decay):
    np.testing.assert_allclose(decay_at(jnp.asarray(step), 0.99), decay, rtol=1e-6)


def test_parameters_that_stand_still_are_their_average():
    params = {"a": jnp.asarray([1.1, -3e-5, 7e8])}
    found = update_average(params, params, jnp.asarray(3), 0.999)
    np.testing.assert_array_equal(found["a"], params["a"])
