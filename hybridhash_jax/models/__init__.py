"""The network: HybridHash, its parts, and its variants by name."""

from hybridhash_jax.models.classifier import NestClassifier
from hybridhash_jax.models.flops import forward_flops
from hybridhash_jax.models.hybridhash import HybridHash
from hybridhash_jax.models.variants import VARIANTS, create_classifier, create_model, create_network

__all__ = [
    "VARIANTS",
    "HybridHash",
    "NestClassifier",
    "create_classifier",
    "create_model",
    "create_network",
    "forward_flops",
]
