"""Deep hashing for image retrieval."""

__version__ = "0.2.0"
