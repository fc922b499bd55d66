"""From images to answers: encode, index, search, near-duplicates. Imports JAX when it is needed."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridhash_jax.retrieval.encoding.encoder import Encoder
    from hybridhash_jax.retrieval.search.answers import Answer, Found
    from hybridhash_jax.retrieval.search.search_index import SearchIndex, open_index

__all__ = ["Answer", "Encoder", "Found", "SearchIndex", "open_index"]
_SEARCH = "hybridhash_jax.retrieval.search"
_MODULES = {
    "Answer": f"{_SEARCH}.answers",
    "Encoder": "hybridhash_jax.retrieval.encoding.encoder",
    "Found": f"{_SEARCH}.answers",
    "SearchIndex": f"{_SEARCH}.search_index",
    "open_index": f"{_SEARCH}.search_index",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_MODULES[name]), name)
