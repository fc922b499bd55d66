"""JLDSH, reconstructed: no formula of the method of Neurocomputing 385 (2020) could be found.

Known are its title, and that it is asymmetric and improves on ADSH. This is our guess at "joint",
ADSH with a linear classification of the database codes, and not the authors' formula:

    eta * |Y - V W|^2 + xi * |W|^2,    W = (V^T V + xi / eta)^-1 V^T Y of each epoch's V,

and the network learns `classification` times the cross-entropy of a trained classifier of its
outputs. With eta = classification = 0 it is ADSH.
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
    Option("eta", "weight of the classification of codes", at_least=0),
    Option("xi", "weight of its decay", above=0),
    Option("classification", "weight of the classification of outputs", at_least=0),
)


@dataclasses.dataclass(frozen=True)
class JLDSHReconstructed(ADSH):
    """See the module's docstring; the weights are our choice."""

    eta: float = 20.0
    xi: float = 1.0
    classification: float = 1.0

    title, paper = "JLDSH (reconstructed)", "after Neurocomputing 385, 2020"
    group = "jldsh_reconstructed"
    options = OPTIONS

    def init_parameters(self, num_classes: int, bits: int, key: jax.Array) -> dict[str, Any]:
        """The classifier of outputs [K, classes]."""
        if not self.classification:
            return {}
        drawn = jax.random.normal(key, (bits, num_classes), jnp.float32)
        return {"classifier": drawn / bits**0.5}

    def own_costs(
        self, outputs: jax.Array, labels: jax.Array, examples: Examples, state: Database
    ) -> jax.Array | float:
        """Cross-entropy with an image's labels, each of the same weight; of the scale of N."""
        if not self.classification:
            return 0.0
        logits = jnp.matmul(outputs, examples.parameters["classifier"], precision="highest")
        targets = labels.astype(outputs.dtype)
        targets /= jnp.maximum(targets.sum(axis=1, keepdims=True), 1)
        costs = -jnp.sum(targets * jax.nn.log_softmax(logits), axis=1)
        # The loss divides by N, and the cross-entropy is an image's own.
        return self.classification * state.num_images * costs

    def additions(self, state: Database, rows: Rows) -> tuple[Additions | None, Any]:
        """Y W^T, and W W^T in the Gram matrix."""
        bits = state.codes.shape[1]

        def sums(_: Any, own: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            codes, labels = own
            classes = labels.astype(codes.dtype)
            products = (jnp.matmul(codes.T, x, precision="highest") for x in (codes, classes))
            gram, of_classes = products
            return gram, of_classes

        if not self.eta:
            return None, state.own
        gram, of_classes = rows.sum_over(sums)(jnp.zeros(()), (state.codes, state.labels))
        ridge = self.xi / self.eta * jnp.eye(bits, dtype=gram.dtype)
        weights: jax.Array = jnp.linalg.solve(gram + ridge, of_classes)  # [K, classes]
        square = jnp.matmul(weights, weights.T, precision="highest")
        nothing = jnp.zeros_like(weights.T)
        of_all = jnp.zeros(bits, gram.dtype)
        additions = Additions(self.eta * weights.T, nothing, of_all, self.eta * square)
        return additions, state.own
