"""The methods by name, and what a method is."""

from hybridhash_jax.methods.central.csq import CSQ
from hybridhash_jax.methods.classification import Classification
from hybridhash_jax.methods.hybridhash import HybridHash
from hybridhash_jax.methods.method import Epoch, Examples, Method, Rows, WholeRows
from hybridhash_jax.methods.unsupervised import ITQ, LSH, PCA, FittedMethod

METHODS: dict[str, type[Method]] = {
    "hybridhash": HybridHash,
    "csq": CSQ,
    "lsh": LSH,
    "pca": PCA,
    "itq": ITQ,
    "classification": Classification,
}

RECIPES = ("published", "features")  # what `Method.recipes` may be called

__all__ = [
    "METHODS",
    "RECIPES",
    "Classification",
    "Epoch",
    "Examples",
    "FittedMethod",
    "Method",
    "Rows",
    "WholeRows",
]
