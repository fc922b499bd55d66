"""The methods by name, and what a method is."""

from hybridhash_jax.methods.central.csq import CSQ
from hybridhash_jax.methods.classification import Classification
from hybridhash_jax.methods.hybridhash import HybridHash
from hybridhash_jax.methods.method import Epoch, Examples, Method, Rows, WholeRows
from hybridhash_jax.methods.pairwise.cnnh import CNNH
from hybridhash_jax.methods.pairwise.dch import DCH
from hybridhash_jax.methods.pairwise.dnnh import DNNH
from hybridhash_jax.methods.pairwise.dpsh import DPSH
from hybridhash_jax.methods.pairwise.dsh import DSH
from hybridhash_jax.methods.pairwise.dtsh import DTSH
from hybridhash_jax.methods.pairwise.hashnet import HashNet
from hybridhash_jax.methods.unsupervised import ITQ, LSH, PCA, FittedMethod

METHODS: dict[str, type[Method]] = {
    "hybridhash": HybridHash,
    "cnnh": CNNH,
    "dnnh": DNNH,
    "dsh": DSH,
    "dpsh": DPSH,
    "dtsh": DTSH,
    "hashnet": HashNet,
    "dch": DCH,
    "csq": CSQ,
    "lsh": LSH,
    "pca": PCA,
    "itq": ITQ,
    "classification": Classification,
}

__all__ = [
    "METHODS",
    "Classification",
    "Epoch",
    "Examples",
    "FittedMethod",
    "Method",
    "Rows",
    "WholeRows",
]
