"""The methods by name, and what a method is."""

from typing import Any

from hybridhash_jax.methods.asymmetric.admh_reconstructed import ADMHReconstructed
from hybridhash_jax.methods.asymmetric.adsh import ADSH
from hybridhash_jax.methods.asymmetric.jldsh_reconstructed import JLDSHReconstructed
from hybridhash_jax.methods.central.csq import CSQ
from hybridhash_jax.methods.central.dhd import DHD
from hybridhash_jax.methods.central.dpn import DPN
from hybridhash_jax.methods.central.greedyhash import GreedyHash
from hybridhash_jax.methods.central.hyp2 import HyP2
from hybridhash_jax.methods.central.mdshc import MDSHC
from hybridhash_jax.methods.central.orthohash import OrthoHash
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
    "adsh": ADSH,
    "admh_reconstructed": ADMHReconstructed,
    "jldsh_reconstructed": JLDSHReconstructed,
    "mdshc": MDSHC,
    "dpn": DPN,
    "orthohash": OrthoHash,
    "greedyhash": GreedyHash,
    "hyp2": HyP2,
    "dhd": DHD,
    "lsh": LSH,
    "pca": PCA,
    "itq": ITQ,
    "classification": Classification,
}

RECIPES = ("published", "features")  # what `Method.recipes` may be called
# What "published" has of the optimizer where the recipe of a method does not say.
PLAIN: dict[str, Any] = {
    "optimizer.schedule": "constant",
    "optimizer.warmup_epochs": 0.0,
    "optimizer.weight_decay_exclude": (),
    "optimizer.clip_norm": None,
    "optimizer.momentum": 0.9,
    "optimizer.nesterov": False,
    "optimizer.learning_rate_factors": (),
}

__all__ = [
    "METHODS",
    "PLAIN",
    "RECIPES",
    "Classification",
    "Epoch",
    "Examples",
    "FittedMethod",
    "Method",
    "Rows",
    "WholeRows",
]
