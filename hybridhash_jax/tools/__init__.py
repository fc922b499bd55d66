"""Commands: python -m hybridhash_jax.tools.NAME."""
