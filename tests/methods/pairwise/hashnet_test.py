"""HashNet: the losses, weights and gradients of its authors' code and of DeepHash-pytorch."""

import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.methods.pairwise.hashnet import (
    HashNet,
    beta_at,
    shared_share,
    weighted_loss,
)
from tests.methods.pairwise import golden_files

CASES = [f"{kind}{number}" for kind in "sm" for number in range(3)]


def check_cross_pairs(golden, case, name, dtype, scale=None, tolerance=1e-5, **options):
    """Compares a loss over the pairs of two batches; `scale` is beta, None for no tanh."""
    labels = [jnp.asarray(golden[f"{case}y{side}"]) for side in (1, 2)]
    pairs = jnp.ones((len(labels[0]), len(labels[1])), bool)

    def loss(*outputs):
        h, others = (z if scale is None else jnp.tanh(scale * z) for z in outputs)
        return weighted_loss(h, labels[0], others, labels[1], pairs, **options), None

    golden_files.check_loss(
        loss,
        [golden[f"{case}z{side}"] for side in (1, 2)],
        golden[f"{name}_loss"],
        [golden[f"{name}_grad{side}"] for side in (1, 2)],
        dtype,
        tolerance=tolerance,
    )


@pytest.mark.parametrize("dtype", golden_files.PRECISIONS)
@pytest.mark.parametrize("case", CASES)
def test_the_losses_are_those_of_the_authors(case, dtype):
    golden = golden_files.load("HashNet_official")
    beta = float(golden[f"{case}_beta"])
    with golden_files.precision(dtype):
        for number in (1, 5, 100):
            weights = {"variant": "official", "class_num": number, "alpha": 10 / 12}
            name = f"{case}_cn{number}"
            check_cross_pairs(golden, f"{case}_", name, dtype, beta, **weights)
        check_cross_pairs(
            golden, f"{case}_", f"{case}_upd", dtype, beta, variant="updated", alpha=1.0
        )


def test_the_authors_guard_against_overflow_only_differs_by_what_it_leaves_out():
    golden = golden_files.load("HashNet_official")
    assert golden["thr_frac"] > 0
    labels = [jnp.asarray(golden[f"thr_y{side}"]) for side in (1, 2)]
    with golden_files.precision("float64"):
        outputs = [jnp.asarray(golden[f"thr_z{side}"]) for side in (1, 2)]
        pairs = jnp.ones((6, 7), bool)
        options = {"alpha": 1.0, "variant": "official", "class_num": 3}
        loss = weighted_loss(outputs[0], labels[0], outputs[1], labels[1], pairs, **options)
        np.testing.assert_allclose(loss, golden["thr_loss"], atol=3e-7)


@pytest.mark.parametrize("dtype", golden_files.PRECISIONS)
@pytest.mark.parametrize(
    ("variant", "name", "share"),
    [("paper", "paper", "c_paper"), ("caffe", "caffe_grad_surrogate", "c_caffe")],
)
def test_similar_pairs_weigh_by_the_labels_that_they_share(variant, name, share, dtype):
    golden = golden_files.load("HashNet_multilabel_weights")
    with golden_files.precision(dtype):
        check_cross_pairs(
            golden, "", name, dtype, 1.0, variant=variant, class_num=5.0, alpha=10 / 12
        )
        ours = shared_share(jnp.asarray(golden["y1"]), jnp.asarray(golden["y2"]), variant)
        is_similar = golden["s"] > 0
        np.testing.assert_allclose(ours[is_similar], golden[share][is_similar], rtol=1e-6)


@pytest.mark.parametrize("dtype", golden_files.PRECISIONS)
@pytest.mark.parametrize("case", CASES)
def test_with_images_themselves_it_is_that_of_deephash_pytorch(case, dtype):
    golden = golden_files.load("HashNet_deephash_pytorch")
    with golden_files.precision(dtype):
        examples = golden_files.examples_of(golden[f"{case}_y"])
        method = HashNet("deephash", alpha=0.1, beta_growth=0.0)

        def loss(u):
            return method.loss(u, examples, None, jnp.zeros((), jnp.int32))

        scale = float(golden[f"{case}_scale"])
        golden_files.check_loss(
            lambda u: loss(u * scale),
            [golden[f"{case}_u"]],
            golden[f"{case}_loss"],
            [golden[f"{case}_grad"]],
            dtype,
        )


@pytest.mark.parametrize("number", range(3))
def test_beta_rises_as_the_authors_have_it(number):
    golden = golden_files.load("HashNet_official")
    iteration = (0, 200, 10_000)[number]
    for later in (0, 199):  # it is renewed every 200 iterations
        beta = beta_at(jnp.asarray(iteration + later), 10_000)
        assert float(beta) == pytest.approx(float(golden[f"s{number}_beta"]), rel=1e-6)


def test_in_a_short_run_beta_gets_as_far():
    assert float(beta_at(jnp.asarray(400), 400)) == pytest.approx(51**0.5)
    examples = golden_files.examples_of(np.eye(2)[[0, 0, 1]])
    outputs = jnp.asarray([[0.1, 0.2], [0.3, -0.1], [0.2, 0.2]])
    method = HashNet(total_steps=400)
    last, _ = method.loss(outputs, examples, None, jnp.asarray(400))
    scaled, _ = method.loss(outputs * 51**0.5, examples, None, jnp.asarray(0))
    np.testing.assert_allclose(last, scaled, rtol=1e-5)
