"""Pre-trained weights: timm's NesT, Google's NesT, the authors' HybridHash, and our own runs."""

from hybridhash_jax.pretrained.errors import IncompatibleWeightsError, WeightFileError
from hybridhash_jax.pretrained.loading import Loaded, load_pretrained
from hybridhash_jax.parameters import parameter_paths

__all__ = [
    "IncompatibleWeightsError",
    "Loaded",
    "WeightFileError",
    "load_pretrained",
    "parameter_paths",
]
