"""Optimizers against formulas written out here; schedules; weight-decay masks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import digits
from hybridhash_jax.configured import configured_optimizer, create_method
from hybridhash_jax.methods import METHODS
from hybridhash_jax.optimizer import (
    OPTIMIZERS,
    frozen_mask,
    learning_rate_multipliers,
    make_optimizer,
    make_schedule,
    parse_factor,
    weight_decay_mask,
)

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


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_factor_is_a_learning_rate_of_its_own(name):
    options: dict[str, Any] = {"name": name, "weight_decay": 0.1}
    kernel = "layer"
    scaled = make_optimizer(
        PARAMS, learning_rate=0.05, learning_rate_factors=("kernel$=0.25",), **options
    )
    alone = make_optimizer(PARAMS, learning_rate=0.05 * 0.25, **options)
    np.testing.assert_allclose(trajectory(scaled), trajectory(alone), rtol=1e-6)
    whole = make_optimizer(PARAMS, learning_rate=0.05, **options)
    grads, updates = jax.tree.map(lambda p: p - 0.3, PARAMS), {}
    for key, optimizer in (("scaled", scaled), ("whole", whole)):
        updates[key] = optimizer.update(grads, optimizer.init(PARAMS), PARAMS)[0]
    np.testing.assert_array_equal(
        updates["scaled"][kernel]["bias"], updates["whole"][kernel]["bias"]
    )


def test_the_first_pattern_that_is_found_counts():
    expected = {"layer": {"kernel": 0.5, "bias": 2.0}}
    assert learning_rate_multipliers(PARAMS, ("bias=2", ".=0.5", "kernel=7")) == expected
    assert learning_rate_multipliers(PARAMS, ("s$=3",)) == {"layer": {"kernel": 1.0, "bias": 3.0}}


def test_a_pattern_may_hold_an_equals_sign():
    assert parse_factor("(?=levels)=0.1") == ("(?=levels)", 0.1)


@pytest.mark.parametrize(
    "entry", ["kernel", "=0.1", "kernel=", "kernel=x", "kernel=0", "kernel=-1", "kernel=inf", 0.1]
)
def test_a_factor_that_is_none_is_refused_with_its_form(entry):
    with pytest.raises(ValueError, match="learning_rate_factors: .*PATTERN=FACTOR"):
        make_optimizer(PARAMS, name="sgd", learning_rate=1.0, learning_rate_factors=(entry,))


@pytest.mark.parametrize("pattern", ["gamma", "("])
@pytest.mark.parametrize(("option", "tail"), [("frozen", ""), ("learning_rate_factors", "=0.1")])
def test_other_patterns_that_match_nothing_are_refused_too(pattern, option, tail):
    given: Any = {option: (pattern + tail,)}
    with pytest.raises(ValueError, match=f"optimizer.{option}: "):
        make_optimizer(PARAMS, name="sgd", learning_rate=1.0, **given)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_frozen_gets_no_update_and_has_no_state(name):
    options: dict[str, Any] = {"learning_rate": 0.1, "weight_decay": 0.5, "clip_norm": 1.0}
    optimizer = make_optimizer(PARAMS, name=name, frozen=("kernel",), **options)
    state = optimizer.init(PARAMS)
    assert 2 not in [leaf.size for leaf in jax.tree.leaves(state)]  # the kernel's size
    # A gradient of the frozen part must not count in the norm that is clipped.
    grads = {"layer": {"kernel": jnp.asarray([1e6, jnp.inf]), "bias": jnp.asarray([0.25])}}
    updates: Any = optimizer.update(grads, state, PARAMS)[0]
    np.testing.assert_array_equal(updates["layer"]["kernel"], [0.0, 0.0])
    bias = {"layer": {"bias": PARAMS["layer"]["bias"]}}
    alone = make_optimizer(bias, name=name, **options)
    expected: Any = alone.update(
        {"layer": {"bias": grads["layer"]["bias"]}}, alone.init(bias), bias
    )
    np.testing.assert_array_equal(updates["layer"]["bias"], expected[0]["layer"]["bias"])


def test_freezing_everything_is_refused():
    assert frozen_mask(PARAMS, ("bias",)) == {"layer": {"kernel": False, "bias": True}}
    with pytest.raises(ValueError, match="freezes every parameter"):
        frozen_mask(PARAMS, ("bias", "kernel"))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_factors_and_frozen_parts_the_state_is_as_in_older_checkpoints(name):
    plain = make_optimizer(PARAMS, name=name, learning_rate=0.1, weight_decay=0.1)
    scaled = make_optimizer(
        PARAMS, name=name, learning_rate=0.1, weight_decay=0.1, learning_rate_factors=(".=0.5",)
    )
    paths = [
        [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
        for state in (plain.init(PARAMS), scaled.init(PARAMS))
    ]
    assert paths[0] == paths[1]


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


def test_every_schedule_rises_linearly_from_0():
    common: dict[str, Any] = {"total_steps": 100, "steps_per_epoch": 10, "warmup_epochs": 1.6}
    steps = (0, 1, 8, 15, 16, 17)
    rise = [0, 0.5 / 16, 0.25, 0.5 * 15 / 16, 0.5, 0.5]
    constant = make_schedule("constant", 0.5, **common)
    assert values(constant, *steps, 99) == pytest.approx([*rise, 0.5], rel=1e-6)
    dropping = make_schedule("step", 0.5, step_epochs=(2, 4), **common)
    found = values(dropping, *steps, 19, 20, 39, 40)
    assert found == pytest.approx([*rise, 0.5, 0.05, 0.05, 0.005], rel=1e-6)
    cosine = make_schedule("warmup_cosine", 0.5, **common)
    assert values(cosine, *steps[:5]) == pytest.approx(rise[:5], rel=1e-6)
    assert constant(16) == dropping(16) == 0.5  # exactly, from the first step after the rise


def test_a_drop_within_the_warmup_counts_from_the_start_of_the_run():
    schedule = make_schedule(
        "step", 0.5, step_epochs=(1,), total_steps=40, steps_per_epoch=10, warmup_epochs=2
    )
    assert values(schedule, 9, 10, 20) == pytest.approx([0.225, 0.025, 0.05], rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schedule": "constant", "warmup_epochs": 10}, "leaves none"),
        ({"schedule": "linear"}, "accepted: constant, step, warmup_cosine"),
        ({"schedule": "step"}, "step_epochs"),
        ({"schedule": "warmup_cosine", "warmup_epochs": 10}, "leaves none"),
    ],
)
def test_impossible_schedules_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_schedule(learning_rate=0.1, total_steps=100, steps_per_epoch=10, **arguments)


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="accepted: rmsprop, adam, adamw, sgd"):
        make_optimizer(PARAMS, name="lamb", learning_rate=0.1)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_with_momentum_is_as_written_out(nesterov):
    params = {"a": jnp.asarray([1.0, -2.0])}
    optimizer: Any = make_optimizer(
        params, name="sgd", learning_rate=0.1, weight_decay=0.5, momentum=0.9, nesterov=nesterov
    )
    state, velocity, value = optimizer.init(params), np.zeros(2), np.asarray([1.0, -2.0])
    for gradient in ([0.5, 1.0], [-1.0, 0.25], [0.0, 2.0]):
        updates, state = optimizer.update({"a": jnp.asarray(gradient)}, state, params)
        params = {"a": params["a"] + updates["a"]}
        decayed = np.asarray(gradient) + 0.5 * value
        velocity = 0.9 * velocity + decayed
        value = value - 0.1 * (decayed + 0.9 * velocity if nesterov else velocity)
        np.testing.assert_allclose(params["a"], value, rtol=1e-5)


def test_adam_adds_its_decay_to_the_gradient():
    params = {"a": jnp.asarray([2.0])}
    optimizer: Any = make_optimizer(params, name="adam", learning_rate=0.1, weight_decay=0.5)
    # The first step of Adam is the rate times the sign of what comes in: here 0.5 * 2 - 0.9 > 0.
    updates, _ = optimizer.update({"a": jnp.asarray([-0.9])}, optimizer.init(params), params)
    np.testing.assert_allclose(updates["a"], [-0.1], rtol=1e-4)


@pytest.mark.parametrize("name", [name for name, kind in METHODS.items() if kind.is_fitted])
def test_a_fitted_method_can_be_run_with_the_warm_up_of_any_configuration(name):
    config = digits.get_config()
    config.method.name = name
    assert config.optimizer.warmup_epochs > 1  # and a fit is one step
    optimizer, schedule = configured_optimizer(config, create_method(config), PARAMS, 1, 1)
    assert schedule(0) == 0
    for found in trajectory(optimizer, 2):
        np.testing.assert_array_equal(found, PARAMS["layer"]["kernel"])
