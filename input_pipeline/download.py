"""Downloads one file, whole and checked, or leaves nothing behind."""

import contextlib
import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from input_pipeline.errors import DataError

TIMEOUT_SECONDS = 30
_CHUNK = 1 << 20


def fetch(url: str, target: Path, md5: str) -> None:
    """Downloads `url` to `target`, which appears only once it is complete and its MD5 right.

    Args:
      url: where from; anything `urllib` opens.
      target: the file to make; its folder is created.
      md5: the expected MD5, in hex.

    Raises:
      DataError: if the host cannot be reached, stays silent for 30 s or answers with an error,
        if the folder cannot be written, or if the MD5 differs (what arrived is deleted).
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own, so that two processes on one disk do not write into one file.
        handle, part_name = tempfile.mkstemp(".part", f"{target.name}.", target.parent)
    except OSError as error:
        raise DataError(f"cannot write to {target.parent} ({error})") from error
    part = Path(part_name)
    try:
        with os.fdopen(handle, "wb") as file:
            found = _download(url, file, target.name)
        if found != md5:
            raise DataError(
                f"{url} arrived with MD5 {found}, expected {md5}: what arrived was deleted"
            )
        os.replace(part, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


def _download(url: str, file: BinaryIO, name: str) -> str:
    """Copies `url` into `file` behind a progress line; returns the MD5 of what arrived."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            total = int(response.headers.get("Content-Length") or 0) or None
            with tqdm(total=total, desc=name, unit="B", unit_scale=True) as progress:
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
                    progress.update(len(chunk))
    except urllib.error.HTTPError as error:
        error.close()
        raise DataError(f"cannot download {url} (HTTP {error.code} {error.reason})") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(f"cannot download {url} ({error})") from error
    return digest.hexdigest()
