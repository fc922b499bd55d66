"""What the parameters of a run started from, kept for later starts."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybridhash_jax.workdir import names
from input_pipeline.atomic_file import write_json


def save_init(workdir: Path, account: Mapping[str, Any] | None) -> None:
    """Writes what loading did, with its summary as init_from; None removes an earlier note."""
    path = workdir / names.INIT
    if account is None:
        path.unlink(missing_ok=True)
    else:
        write_json(path, dict(account))


def load_init_note(workdir: Path) -> str | None:
    """The summary that `save_init` wrote; None if there is none that can be read."""
    try:
        note = json.loads((workdir / names.INIT).read_text())["init_from"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return note if isinstance(note, str) else None
