"""What holds for every method of classes: padding, order, missing labels, extremes, both types."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.methods import METHODS, Examples

NAMES = ("csq", "dpn", "orthohash", "greedyhash", "hyp2", "mdshc", "dhd")
IMAGES, CLASSES, BITS = 8, 5, 12
every_method = pytest.mark.parametrize("name", NAMES)


def prepared(name, several):
    """The method, its state (of late epochs), its parameters, and a batch of which 2 are padding."""
    method, keys = METHODS[name](), jax.random.split(jax.random.key(0), 5)
    classes = jax.random.randint(keys[0], (IMAGES,), 0, CLASSES)
    labels = jax.nn.one_hot(classes, CLASSES, dtype=jnp.uint8)
    if several and name != "mdshc":
        labels = labels | (jax.random.uniform(keys[1], labels.shape) < 0.3).astype(jnp.uint8)
    state = method.init_state(jnp.zeros((IMAGES + 4, CLASSES)), BITS, keys[2])
    if hasattr(state, "epochs"):
        state = dataclasses.replace(state, epochs=jnp.asarray(100, jnp.int32))
    outputs = jax.random.uniform(keys[3], (2, IMAGES, BITS), minval=-1)
    examples = Examples(
        labels,
        labels.astype(jnp.float32),
        jnp.arange(IMAGES) < IMAGES - 2,
        jnp.where(jnp.arange(IMAGES) < IMAGES - 2, jnp.arange(IMAGES), IMAGES + 4),
        method.init_parameters(CLASSES, BITS, keys[4]),
        second=outputs[1],
    )
    return method, state, examples, outputs[0]


@functools.partial(jax.jit, static_argnums=0)
def compiled(method, state, examples, outputs):
    """One program a method: every test has batches of the same shapes."""

    def loss(outputs, second, parameters):
        batch = Examples(**examples | {"second": second, "parameters": parameters})
        return method.loss(outputs, batch, state, jnp.zeros((), jnp.int32))

    of = outputs, examples["second"], examples["parameters"]
    return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(*of)


def loss_and_gradients(method, state, examples, outputs):
    fields = {field.name: getattr(examples, field.name) for field in dataclasses.fields(examples)}
    del fields["rows"]
    return compiled(method, state, fields, outputs)


def rows_of(examples, rows):
    arrays = {
        field: getattr(examples, field)[rows]
        for field in ("labels", "targets", "mask", "index", "second")
    }
    return dataclasses.replace(examples, **arrays)


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


@every_method
@pytest.mark.parametrize("several", [False, True], ids=["one label", "several"])
def test_padding_and_the_order_of_a_batch_change_nothing(name, several):
    method, state, examples, outputs = prepared(name, several)
    (value, after), (gradient, _, of_parameters) = loss_and_gradients(
        method, state, examples, outputs
    )
    assert value.dtype == jnp.float32 and value > 0
    np.testing.assert_array_equal(gradient[-2:], 0)
    assert examples.second is not None
    order = jnp.asarray([7, 3, 0, 6, 1, 5, 4, 2])
    padded = dataclasses.replace(
        examples,
        labels=examples.labels.at[-2:].set(1),
        second=examples.second.at[-2:].set(0.5),
    )
    for other, rows, batch in (
        (outputs[order], order, rows_of(examples, order)),
        (outputs.at[-2:].set(3.0), jnp.arange(IMAGES), padded),
    ):
        (other_value, other_after), (other_gradient, _, other_parameters) = loss_and_gradients(
            method, state, batch, other
        )
        close(other_value, value)
        close(other_gradient, gradient[rows])
        jax.tree.map(close, other_parameters, of_parameters)
        jax.tree.map(np.testing.assert_array_equal, other_after, after)


@every_method
def test_images_without_labels_count_no_more_than_padding(name):
    method, state, examples, outputs = prepared(name, several=True)
    padded = loss_and_gradients(method, state, examples, outputs)[0][0]
    unlabelled = dataclasses.replace(
        examples, mask=jnp.ones(IMAGES, bool), labels=examples.labels.at[-2:].set(0)
    )
    close(loss_and_gradients(method, state, unlabelled, outputs)[0][0], padded)


@every_method
@pytest.mark.parametrize("extreme", ["padding", "one class", "zeros", "ends", "large"])
def test_any_batch_has_a_finite_loss_and_finite_gradients(name, extreme):
    method, state, examples, outputs = prepared(name, several=False)
    if extreme == "padding":
        examples = dataclasses.replace(examples, mask=jnp.zeros(IMAGES, bool))
    if extreme == "one class":
        labels = jnp.zeros_like(examples.labels).at[:, 1].set(1)
        examples = dataclasses.replace(examples, labels=labels)
    outputs = {"zeros": 0 * outputs, "ends": jnp.sign(outputs), "large": 1e4 * outputs}.get(
        extreme, outputs
    )
    (value, _), gradients = loss_and_gradients(method, state, examples, outputs)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    if extreme == "padding":
        assert value == 0


@every_method
def test_a_float64_loss_stays_float64_and_agrees(name):
    method, state, examples, outputs = prepared(name, several=True)
    value = loss_and_gradients(method, state, examples, outputs)[0][0]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        wide = dataclasses.replace(
            examples,
            second=jnp.asarray(examples.second, jnp.float64),
            parameters={k: jnp.asarray(v, jnp.float64) for k, v in examples.parameters.items()},
        )
        outputs = jnp.asarray(outputs, jnp.float64)
        precise = loss_and_gradients(method, state, wide, outputs)[0][0]
        assert precise.dtype == jnp.float64
    np.testing.assert_allclose(value, precise, rtol=1e-5)


@every_method
def test_second_outputs_may_be_missing(name):
    method, state, examples, outputs = prepared(name, several=True)
    alone = dataclasses.replace(examples, second=None)
    value, _ = method.loss(outputs, alone, state, jnp.zeros((), jnp.int32))
    assert np.isfinite(value)


@every_method
def test_every_option_of_a_recipe_or_a_grid_is_one_of_the_method(name):
    method = METHODS[name]
    fields = {field.name for field in dataclasses.fields(method)}
    assert set(method.grid) <= fields
    for option in method.options:
        assert option.name in fields
        for value in method.grid.get(option.name, ()):
            assert option.problem_of(value) is None
    assert set(method.recipes) >= {"published"}
