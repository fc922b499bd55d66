"""The nearest codes: exact on one core, approximate with inverted lists, exact on accelerators."""

from hybridhash_jax.retrieval.engine.exact import Nearest, nearest, nearest_of_many

__all__ = ["Nearest", "nearest", "nearest_of_many"]
