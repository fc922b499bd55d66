"""DCH: the losses and gradients of DeepHash-pytorch, and of its authors' code by hand."""

import pytest

from hybridhash_jax.methods.pairwise.dch import DCH
from tests.methods.pairwise import golden_files

CASES = [f"{kind}{number}" for kind in "sm" for number in range(3)]


@pytest.mark.parametrize("dtype", golden_files.PRECISIONS)
@pytest.mark.parametrize("case", CASES)
def test_the_loss_is_that_of_the_paper(case, dtype):
    golden = golden_files.load("DCH_deephash_pytorch")
    with golden_files.precision(dtype):
        examples = golden_files.examples_of(golden[f"{case}_y"])
        golden_files.check_loss(
            lambda u: DCH().loss(u, examples, None, golden_files.NO_STEP),
            [golden[f"{case}_u"]],
            golden[f"{case}_loss"],
            [golden[f"{case}_grad"]],
            dtype,
        )


@pytest.mark.parametrize("dtype", golden_files.PRECISIONS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("form", "method"),
    [
        ("sq", DCH("official")),
        ("sq_q", DCH("official", quantization=0.1)),
        ("cos", DCH("official_cosine")),
    ],
)
def test_the_other_losses_are_those_of_the_authors_code(form, method, case, dtype):
    golden = golden_files.load("DCH_official_byhand")
    with golden_files.precision(dtype):
        examples = golden_files.examples_of(golden[f"{case}_y"])
        golden_files.check_loss(
            lambda z: method.loss(z, examples, None, golden_files.NO_STEP),
            [golden[f"{case}_z"]],
            golden[f"{case}_{form}_loss"],
            [golden[f"{case}_{form}_grad"]],
            dtype,
        )
