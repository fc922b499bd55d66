"""Files that appear whole or not at all."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from input_pipeline.errors import DataError


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file under a temporary name, then renames it; DataError leaves an older one."""
    target = Path(path)
    # A name of its own, so that two processes on one disk do not write into one file.
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, target)
    except OSError as error:
        raise DataError(f"cannot write {target} ({error})") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def nearest_existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    whole = path.absolute()
    return next(place for place in (whole, *whole.parents) if place.exists())


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Writes JSON, indented, as `write_atomically` does."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
