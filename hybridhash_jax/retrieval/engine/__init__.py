"""Nearest codes: an exact scan, lists of faiss (`ivf`), and accelerators (`devices`).

Importing this loads neither JAX nor faiss nor Numba.
"""

from hybridhash_jax.retrieval.engine.exact import Nearest, nearest, nearest_batch

__all__ = ["Nearest", "nearest", "nearest_batch"]
