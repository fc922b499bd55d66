"""Optimizers against formulas written out here; schedules; weight-decay masks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hybridhash_jax.optimizer import make_optimizer, make_schedule, weight_decay_mask

PARAMS: Any = {"layer": {"kernel": jnp.asarray([0.5, -1.0]), "bias": jnp.asarray([0.25])}}


def trajectory(optimizer, steps=5):
    """Parameters after each step, under gradients that change with the step."""
    params: Any = PARAMS
    state, out = optimizer.init(PARAMS), []
    for step in range(steps):
        grads = jax.tree.map(lambda p, step=step: p * (step + 1) - 0.3, params)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        out.append(np.asarray(params["layer"]["kernel"], np.float64))
    return out


def test_rmsprop_has_pytorch_semantics():
    lr, decay, eps, weight_decay = 1e-2, 0.99, 1e-8, 0.1
    p, square, expected = np.asarray([0.5, -1.0]), np.zeros(2), []
    for step in range(5):
        grad = p * (step + 1) - 0.3 + weight_decay * p  # L2, before the accumulator
        square = decay * square + (1 - decay) * grad**2
        p = p - lr * grad / (np.sqrt(square) + eps)  # eps outside the root
        expected.append(p)
    optimizer = make_optimizer(PARAMS, name="rmsprop", learning_rate=lr, weight_decay=weight_decay)
    np.testing.assert_allclose(trajectory(optimizer), expected, rtol=2e-6)


def test_adamw_decays_apart_from_the_gradient():
    lr, b1, b2, weight_decay = 1e-2, 0.8, 0.9, 0.1
    p, m, v, expected = np.asarray([0.5, -1.0]), np.zeros(2), np.zeros(2), []
    for step in range(5):
        grad = p * (step + 1) - 0.3
        m, v = b1 * m + (1 - b1) * grad, b2 * v + (1 - b2) * grad**2
        m_hat, v_hat = m / (1 - b1 ** (step + 1)), v / (1 - b2 ** (step + 1))
        p = p - lr * (m_hat / (np.sqrt(v_hat) + 1e-8) + weight_decay * p)
        expected.append(p)
    optimizer = make_optimizer(
        PARAMS, name="adamw", learning_rate=lr, weight_decay=weight_decay, beta1=b1, beta2=b2
    )
    np.testing.assert_allclose(trajectory(optimizer), expected, rtol=2e-5)


def test_sgd_has_momentum_and_l2():
    lr, momentum, weight_decay = 1e-2, 0.9, 0.1
    p, velocity, expected = np.asarray([0.5, -1.0]), np.zeros(2), []
    for step in range(5):
        velocity = momentum * velocity + p * (step + 1) - 0.3 + weight_decay * p
        p = p - lr * velocity
        expected.append(p)
    optimizer = make_optimizer(
        PARAMS, name="sgd", learning_rate=lr, weight_decay=weight_decay, momentum=momentum
    )
    np.testing.assert_allclose(trajectory(optimizer), expected, rtol=2e-6)


def test_clipping_bounds_the_global_norm():
    optimizer = make_optimizer(PARAMS, name="sgd", learning_rate=1.0, momentum=0.0, clip_norm=0.5)
    grads = jax.tree.map(lambda p: 100 * p, PARAMS)
    updates, _ = optimizer.update(grads, optimizer.init(PARAMS), PARAMS)
    assert float(optax.tree.norm(updates)) == pytest.approx(0.5, rel=1e-5)


def test_a_pattern_spares_what_it_matches():
    assert weight_decay_mask(PARAMS, ("bias$",)) == {"layer": {"kernel": True, "bias": False}}
    spared = make_optimizer(
        PARAMS, name="sgd", learning_rate=1.0, weight_decay=0.5, weight_decay_exclude=("kernel",)
    )
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    updates: Any = spared.update(zero, spared.init(PARAMS), PARAMS)[0]
    np.testing.assert_array_equal(updates["layer"]["kernel"], 0.0)
    np.testing.assert_allclose(updates["layer"]["bias"], -0.125)


@pytest.mark.parametrize("pattern", ["gamma", "(", 3])
def test_a_pattern_that_matches_nothing_is_refused(pattern):
    with pytest.raises(ValueError, match="weight_decay_exclude"):
        weight_decay_mask(PARAMS, (pattern,))


def values(schedule, *steps):
    return [np.asarray(schedule(step)) for step in steps]


def test_schedules_have_the_values_they_promise():
    common: dict[str, Any] = {"total_steps": 100, "steps_per_epoch": 10}
    constant = make_schedule("constant", 0.5, **common)
    np.testing.assert_allclose(values(constant, 0, 99), [0.5, 0.5])
    step = make_schedule("step", 0.5, step_epochs=(2, 4), step_factor=0.1, **common)
    np.testing.assert_allclose(values(step, 0, 19, 20, 40), [0.5, 0.5, 0.05, 0.005])
    cosine = make_schedule("warmup_cosine", 0.5, warmup_epochs=2, **common)
    np.testing.assert_allclose(
        values(cosine, 0, 10, 20, 60, 100),
        [0, 0.25, 0.5, 0.25, 0],
        atol=1e-7,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schedule": "linear"}, "accepted: constant, step, warmup_cosine"),
        ({"schedule": "step"}, "step_epochs"),
        ({"schedule": "warmup_cosine", "warmup_epochs": 10}, "leaves none"),
    ],
)
def test_impossible_schedules_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_schedule(learning_rate=0.1, total_steps=100, steps_per_epoch=10, **arguments)


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="accepted: rmsprop, adamw, sgd"):
        make_optimizer(PARAMS, name="adam", learning_rate=0.1)
