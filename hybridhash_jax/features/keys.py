"""Which folder of the cache holds which features, and what it says of itself."""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybridhash_jax.runtime.console import logger

DEFAULT_DIRECTORY = "~/.cache/hybridhash_jax/features"
VERSION = 2
FACTS = "facts.json"
LOCK = "lock.json"
ELSEWHERE = (
    "name another place with --config.features.dir=FOLDER, or compute features anew in every run "
    "with --config.features.keep=never"
)


def key_of(content: Mapping[str, Any]) -> str:
    """The name of the folder that facts.json with this content belongs into."""
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def read_facts(path: Path) -> dict[str, Any] | None:
    """What the folder of a key says that it holds; None where it says nothing."""
    try:
        content = json.loads((path / FACTS).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def tell_of_another_version(path: Path, content: Mapping[str, Any]) -> None:
    """Says once where an earlier program kept the features of this key, which stay unused."""
    with contextlib.suppress(OSError):
        for other in path.parent.iterdir():
            found = read_facts(other) or {}
            if found.get("store") != VERSION and found.get("facts") == content["facts"]:
                logger.info(
                    "%s holds the same features as version %s of the program kept them; they are "
                    "made anew",
                    other, found.get("store"),
                )  # fmt: skip
                return
