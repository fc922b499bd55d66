"""What every method of pairs and triplets keeps: padding, order, batches of one kind, precision."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.distributed.state_sharding import make_layout
from hybridhash_jax.methods import METHODS, Examples, WholeRows
from hybridhash_jax.optimizer import make_optimizer
from hybridhash_jax.state import first_state
from tests.methods.pairwise import golden_files

IMAGES, BITS, BATCH = 24, 8, 8
VARIANTS = {
    "cnnh": ("paper", "deephash"),
    "dnnh": (0.5, 0.2),
    "dsh": ("official", "caffe", "weixu000", "deephash"),
    "dpsh": ("official", "deephash"),
    "dtsh": ("deephash", "official"),
    "hashnet": ("paper", "official", "caffe", "updated", "deephash"),
    "dch": ("paper", "official", "official_cosine"),
}
ALL = [
    METHODS[name](**{"threshold" if name == "dnnh" else "variant": variant})
    for name, variants in VARIANTS.items()
    for variant in variants
]
WITH_ROWS = [m for m in ALL if m.init_state(jnp.zeros((3, 2)), 4, golden_files.NO_KEY) is not None]


def name_of(method):
    return f"{method.group} {getattr(method, 'variant', None) or method.threshold}"


def tried(methods):
    """Parameters of a test: of each method one variant, the others thorough."""
    first = {method.group: method for method in reversed(methods)}
    return [
        pytest.param(m, id=name_of(m), marks=[] if m in first.values() else [pytest.mark.thorough])
        for m in methods
    ]


every_method = pytest.mark.parametrize("method", tried(ALL))
every_kind = pytest.mark.parametrize("kind", ["single", "multi"])
RNG = np.random.default_rng(0)
OUTPUTS = RNG.normal(size=(IMAGES, BITS)).astype(np.float32)
LABELS = {
    "single": np.eye(4, dtype=np.uint8)[RNG.integers(0, 4, IMAGES)],
    "multi": (RNG.random((IMAGES, 4)) < 0.4).astype(np.uint8),
}
LABELS["multi"][[1, 15]] = 0  # images without a label


def state_of(method, labels):
    """The state after batches of other images."""
    state = method.init_state(jnp.asarray(labels), BITS, jax.random.key(0))
    state = method.start(state, labels)
    index = np.arange(BATCH, IMAGES - 2)
    return run(method, OUTPUTS[index] / 2, labels[index], index, state)[2]


WHOLE = WholeRows()


def differentiated(method, outputs, labels, mask, index, state, rows: Any = WHOLE):
    """The loss, its gradient, and the next state."""

    def loss(outputs):
        examples = Examples(labels, labels, mask, index, rows=rows)
        return method.loss(outputs, examples, state, jnp.asarray(3))

    (value, state), gradient = jax.value_and_grad(loss, has_aux=True)(outputs)
    return value, gradient, state


compiled: Any = jax.jit(differentiated, static_argnums=0)


def run(method, outputs, labels, index, state, mask=None):
    """Loss, gradient and next state of a batch."""
    mask = jnp.ones(len(index), bool) if mask is None else jnp.asarray(mask)
    outputs, labels, index = (jnp.asarray(x) for x in (outputs, labels, index))
    return compiled(method, outputs, labels, mask, index, state)


def assert_same(ours, other, rtol=2e-5):
    scale = np.abs(other).max() if np.size(other) else 0
    np.testing.assert_allclose(ours, other, rtol=rtol, atol=rtol * scale)


@every_kind
@every_method
def test_neither_padding_nor_the_order_of_a_batch_changes_anything(method, kind):
    labels = LABELS[kind]
    state = state_of(method, labels)
    index = np.arange(BATCH)
    value, gradient, after = run(method, OUTPUTS[:BATCH], labels[:BATCH], index, state)
    assert value > 0
    assert np.abs(gradient).max() > 0
    order = np.asarray([4, 9, 7, 1, 0, 8, 5, 2, 6, 3])  # 8 and 9 are padding
    outputs = np.concatenate([OUTPUTS[:BATCH], np.full((2, BITS), 3, np.float32)])
    padded = np.concatenate([labels[:BATCH], np.ones((2, 4), np.uint8)])
    rows = np.concatenate([index, [IMAGES, IMAGES]])
    moved = run(method, outputs[order], padded[order], rows[order], state, order < BATCH)
    assert_same(moved[0], value)
    by_image = np.zeros((BATCH + 2, BITS), np.float32)
    by_image[order] = moved[1]
    assert_same(by_image[:BATCH], gradient)
    np.testing.assert_array_equal(by_image[BATCH:], 0)
    jax.tree.map(np.testing.assert_array_equal, moved[2], after)


@every_method
def test_batches_of_one_kind_of_pair_and_outputs_of_0_are_finite(method):
    labels = LABELS["single"].copy()
    labels[:BATCH] = np.eye(4)[0]
    alone = np.eye(BATCH, IMAGES, dtype=np.uint8)
    cases = {
        "only similar": (labels, OUTPUTS, None),
        "only dissimilar": (np.pad(alone, [(0, IMAGES - BATCH), (0, 0)]), OUTPUTS, None),
        "without labels": (np.zeros_like(labels), OUTPUTS, None),
        "only padding": (labels, OUTPUTS, np.zeros(BATCH, bool)),
        "zeros": (LABELS["single"], np.zeros_like(OUTPUTS), None),
        "equal": (LABELS["single"], np.ones_like(OUTPUTS), None),
        "large": (LABELS["single"], 300 * OUTPUTS, None),
    }
    for name, (labels, outputs, mask) in cases.items():
        first = method.init_state(jnp.asarray(labels), BITS, jax.random.key(0))
        for state in (first, state_of(method, labels)):
            batch = outputs[:BATCH], labels[:BATCH], np.arange(BATCH)
            value, gradient, _ = run(method, *batch, state, mask)
            assert np.isfinite(value), name
            assert np.isfinite(gradient).all(), name
            if mask is not None:
                assert value == 0, name
                np.testing.assert_array_equal(gradient, 0)


@every_method
def test_the_loss_has_the_precision_of_the_outputs(method):
    labels = LABELS["multi"]
    state = state_of(method, labels)
    single = run(method, OUTPUTS[:BATCH], labels[:BATCH], np.arange(BATCH), state)
    assert single[0].dtype == np.float32
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        outputs = OUTPUTS[:BATCH].astype(np.float64)
        double = run(method, outputs, labels[:BATCH], np.arange(BATCH), state)
        assert double[0].dtype == np.float64
    assert_same(single[0], double[0])
    assert_same(single[1], double[1])


@pytest.mark.parametrize(
    "method", tried([m for m in ALL if m in WITH_ROWS or m.group in ("dnnh", "dtsh")])
)
def test_batches_and_rows_that_are_split_over_devices_change_nothing(method):
    labels = LABELS["multi"]
    state = jax.tree.map(np.asarray, state_of(method, labels))
    index = np.append(np.arange(BATCH - 1), IMAGES)
    batch = OUTPUTS[:BATCH], labels[:BATCH], np.arange(BATCH) < BATCH - 1, index
    whole = compiled(method, *map(jnp.asarray, batch), jax.tree.map(jnp.asarray, state))
    mesh = sharding.make_mesh(8, 8, 1)
    params = {"kernel": jnp.zeros(3)}
    optimizer = make_optimizer(params, name="sgd", learning_rate=0.1)
    first = jax.eval_shape(lambda: first_state(params, optimizer, state))
    layout = make_layout(first, method.row_leaves(state), mesh)
    placed = jax.device_put(state, layout.shardings.method)
    if method in WITH_ROWS:
        assert not jax.tree.leaves(placed)[0].sharding.is_fully_replicated
    outputs, *rest = (jax.device_put(x, sharding.batch_sharded(mesh)) for x in batch)
    step: Any = jax.jit(lambda *arrays: differentiated(method, *arrays, rows=layout))
    split = step(outputs, *rest, placed)
    assert_same(split[0], whole[0])
    assert_same(split[1], whole[1])
    jax.tree.map(np.testing.assert_array_equal, split[2], whole[2])


@pytest.mark.parametrize(
    "method", tried([m for m in WITH_ROWS if not isinstance(m, METHODS["cnnh"])])
)
def test_rows_of_a_bank_are_the_data_sets_images(method):
    labels = LABELS["multi"]
    state = method.init_state(jnp.asarray(labels), BITS, jax.random.key(0))
    for index in np.random.default_rng(1).permutation(IMAGES).reshape(4, -1):
        _, _, state = run(method, OUTPUTS[index], labels[index], index, state)
    assert state.seen.all()
    np.testing.assert_array_equal(state.embeddings, OUTPUTS)
    np.testing.assert_array_equal(state.labels, labels)
    assert all(jax.tree.leaves(method.row_leaves(state)))
