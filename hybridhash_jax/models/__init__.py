"""Networks: a backbone and a head, by name. Imports JAX only when a network is asked for."""

from typing import TYPE_CHECKING, Any

from hybridhash_jax.models.choices import OPTIONS
from hybridhash_jax.models.variants import GIVEN, VARIANTS

if TYPE_CHECKING:
    from hybridhash_jax.models.network import Backbone, Network, create_network, forward_flops

__all__ = ["GIVEN", "OPTIONS", "VARIANTS", "Backbone", "Network", "create_network", "forward_flops"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from hybridhash_jax.models import network

    return getattr(network, name)
