"""What the flag --config reads where a run's own configuration is meant: saved_config.py:PLACE."""

from pathlib import Path

from hybridhash_jax.config_fields import Config
from hybridhash_jax.workdir.config import load_config


def get_config(place: str) -> Config:
    """The configuration of a workdir, or of a config.json."""
    return load_config(Path(place))
