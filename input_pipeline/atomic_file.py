"""Files that appear whole or not at all."""

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from input_pipeline.errors import DataError

_DESCRIPTOR = re.compile(r"/dev/(stdout|stderr|fd/([0-9]+))")  # what this process has open


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file under a temporary name, then renames it; DataError leaves an older one."""
    with open_atomically(path) as file:
        file.write(data)


@contextlib.contextmanager
def open_atomically(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """For a file that is written in parts: it appears when the block ends without an error.

    A link stays one, and what it leads to is replaced. A device or a pipe is written to, and so is
    /dev/stdout, whatever it leads to.

    Raises:
      DataError: it cannot be written; an older one stays.
    """
    if is_special(path):
        own = _DESCRIPTOR.fullmatch(os.fsdecode(path))
        try:
            if own is not None:
                sys.stdout.flush()  # what was printed before comes before
            # Opened by its name, a file behind /dev/stdout would begin anew.
            with open(path if own is None else os.dup(_number(own)), "wb") as file:
                yield file
        except OSError as error:
            raise DataError(f"cannot write {os.fspath(path)} ({error})") from error
        return
    target = Path(os.path.realpath(path))
    # A name of its own, so that two processes on one disk do not write into one file. Not by the
    # number of the process: in containers that share a disk all may have the same.
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            sync(file.fileno())  # or a power cut might leave the new name without the content
        if target.exists():
            shutil.copymode(target, part)
        os.replace(part, target)
    except OSError as error:
        raise DataError(f"cannot write {target} ({error})") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def sync(file: int) -> None:
    """Waits until the disk holds what was written; OSError, but not where a disk cannot say so."""
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise


def is_special(path: str | os.PathLike[str]) -> bool:
    """Is it neither a file nor a folder, but a device, a pipe, a socket, or such as /dev/stdout?"""
    if _DESCRIPTOR.fullmatch(os.fsdecode(path)):
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _number(descriptor: re.Match[str]) -> int:
    return {"stdout": 1, "stderr": 2}.get(descriptor[1]) or int(descriptor[2])


def nearest_existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    whole = path.absolute()
    return next(place for place in (whole, *whole.parents) if place.exists())


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Writes JSON, indented, as `write_atomically` does."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
