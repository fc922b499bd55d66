"""An encoder as one file: StableHLO with its weights, and what reads it without the network's code."""

from hybridhash_jax.retrieval.model_file.errors import ModelFileError
from hybridhash_jax.retrieval.model_file.reader import ModelFile, load

__all__ = ["ModelFile", "ModelFileError", "load"]
