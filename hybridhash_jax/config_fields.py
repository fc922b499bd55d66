"""The fields of a configuration, flat and as JSON."""

import json
from collections.abc import Iterator
from typing import Any, TypeAlias

from ml_collections import ConfigDict

# An ml_collections ConfigDict. Type checkers know nothing of its fields.
Config: TypeAlias = Any
# Fields of earlier versions: their name now, or the only value that is left of their choices.
RENAMED = {"init.from": "init.weights"}
GONE = {"data.decoder": "exact", "evaluation.metrics_on": None}


class ConfigError(ValueError):
    """A configuration that cannot be run; the message says what would be accepted."""


def flat_fields(config: Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every field."""
    for name, value in config.items():
        if isinstance(value, ConfigDict | dict):
            yield from flat_fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def to_json(config: Config) -> str:
    """The configuration as JSON; tuples become lists."""
    return json.dumps(config.to_dict(), indent=2) + "\n"
