"""ADMH, reconstructed: no formula of the method of Neurocomputing 380 (2020) could be found.

Known from its abstract: a network is trained for queries, and a metric-learning scheme learns the
codes of the database directly, both in one framework. This is our reading of that, ADSH with two
terms, and not the authors' formula. With centres c_k, the mean of the last outputs of the drawn
images of class k, codes v_j are drawn to the centre of their label and pushed from the others':

    mu * sum_j |v_j - c_label|^2 - nu / (C - 1) * sum_j sum_other |v_j - c_other|^2,

and so are outputs of the network, to and from the centres of the epoch before. An image with
several labels has the mean of their centres. With mu = nu = 0 it is ADSH.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false
# pyright: reportUnknownVariableType=false, reportUnknownLambdaType=false
# (JAX's own types are not complete, and Optax has none.)

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from hybridhash_jax.methods.asymmetric.adsh import ADSH, Additions, Database
from hybridhash_jax.methods.asymmetric.adsh import OPTIONS as ADSH_OPTIONS
from hybridhash_jax.methods.method import Examples, Rows
from input_pipeline.options import Option

OPTIONS = (
    *ADSH_OPTIONS,
    Option("mu", "how strongly codes are drawn to their class", at_least=0),
    Option("nu", "how strongly they are pushed from the others", at_least=0),
)


@dataclasses.dataclass(frozen=True)
class ADMHReconstructed(ADSH):
    """See the module's docstring; `mu` of a tenth of gamma is our choice."""

    mu: float = 20.0
    nu: float = 20.0

    title, paper = "ADMH (reconstructed)", "after Neurocomputing 380, 2020"
    group = "admh_reconstructed"
    options = OPTIONS

    def init_own(self, num_classes: int, bits: int) -> dict[str, jax.Array]:
        """Centres [classes, K], and which classes have one."""
        return {
            "centres": jnp.zeros((num_classes, bits), jnp.float32),
            "known": jnp.zeros(num_classes, jnp.float32),
        }

    def own_costs(
        self, outputs: jax.Array, labels: jax.Array, examples: Examples, state: Database
    ) -> jax.Array | float:
        """Distances to the centres of the epoch before; nothing in the first."""
        del examples
        centres, known = state.own["centres"], state.own["known"]
        own = labels.astype(outputs.dtype) * known[None]
        shares = own / jnp.maximum(own.sum(axis=1, keepdims=True), 1)
        drawn = jnp.square(outputs - jnp.matmul(shares, centres, precision="highest")).sum(axis=1)
        far = jnp.square(outputs[:, None] - centres[None]).sum(axis=2)
        others = (1 - labels.astype(outputs.dtype)) * known[None]
        pushed = (others * far).sum(axis=1) / max(len(known) - 1, 1)
        has_centre = (own.sum(axis=1) > 0).astype(outputs.dtype)
        return self.mu * drawn * has_centre - self.nu * pushed

    def additions(self, state: Database, rows: Rows) -> tuple[Additions | None, Any]:
        """Linear terms, since |v|^2 is K; and the centres of this epoch."""
        del rows
        labels = state.labels[state.drawn.images].astype(jnp.float32)
        counts = labels.sum(axis=0)
        sums = jnp.matmul(labels.T, state.drawn.outputs, precision="highest")
        centres = sums / jnp.maximum(counts, 1)[:, None]
        push = self.nu / max(len(counts) - 1, 1)
        bits = centres.shape[1]
        additions = Additions(
            of_label=push * centres,
            of_share=self.mu * centres,
            of_all=-push * centres.sum(axis=0),
            gram=jnp.zeros((bits, bits), centres.dtype),
        )
        return additions, {"centres": centres, "known": (counts > 0).astype(jnp.float32)}
