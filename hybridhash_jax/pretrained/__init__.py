"""Pre-trained weights: timm's NesT, Google's NesT, the authors' HybridHash, and our own runs."""

from hybridhash_jax.pretrained.account import Loaded
from hybridhash_jax.pretrained.errors import IncompatibleWeightsError, WeightFileError
from hybridhash_jax.pretrained.loading import load_pretrained

__all__ = [
    "IncompatibleWeightsError",
    "Loaded",
    "WeightFileError",
    "load_pretrained",
]
