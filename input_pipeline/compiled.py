# pyright: basic
"""Functions compiled by Numba, kept in a cache that may be absent, unwritable or damaged.

Numba's own types are too few for strict checks.
"""

import contextlib
import functools
import logging
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import config
from numba.core.caching import FunctionCache

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function, **options: Any) -> _Function:
    """Compiles a function on its first call, without the GIL, and keeps the result on disk.

    The result lies where Numba would put it: in NUMBA_CACHE_DIR, beside the source file, or in the
    user's cache folder. Where none of them can be written, in a folder of the user's for temporary
    files; or nowhere. A cache that cannot be read is made again. Each is one line of warning.

    Args:
        function: of NumPy arrays and numbers.
        **options: of `numba.njit`.
    """
    dispatcher: Any = numba.njit(nogil=True, **options)(function)
    cache = _cache_of(function)
    if cache is not None:
        dispatcher._cache = cache  # what enable_caching() would set to Numba's own
    return cast(_Function, dispatcher)


class _Cache(FunctionCache):
    """Numba's cache, but that damage costs time instead of ending the program."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # damaged pickles raise anything
            _warn(
                f"the compiled functions in {self.cache_path} are damaged "
                f"({type(error).__name__}): they are removed and compiled again"
            )
            self._remove_files()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:  # a full disk, or a damaged index that could not be removed
            _warn(
                f"compiled functions cannot be kept in {self.cache_path} "
                f"({type(error).__name__}): they are compiled again at each start, which takes some "
                "seconds; set NUMBA_CACHE_DIR to a folder that can be written"
            )

    def _remove_files(self) -> None:
        base = self._impl.filename_base
        for path in Path(self.cache_path).glob("*.nb[ic]"):
            if path.name == f"{base}.nbi" or path.name.startswith(f"{base}."):
                with contextlib.suppress(OSError):  # saving says so
                    path.unlink(missing_ok=True)


def _cache_of(function: Callable[..., Any]) -> FunctionCache | None:
    try:
        return _Cache(function)
    except RuntimeError:  # Numba found no folder
        pass
    folder, settings = _temporary_folder(), cast(Any, config)
    if folder is None:
        return None
    chosen, settings.CACHE_DIR = settings.CACHE_DIR, str(folder)
    try:
        return _Cache(function)
    except RuntimeError:
        return None
    finally:
        settings.CACHE_DIR = chosen


@functools.cache
def _temporary_folder() -> Path | None:
    """Makes or finds a folder that only this user can write: what lies there is executed."""
    try:
        user = os.getuid() if hasattr(os, "getuid") else 0
        folder = Path(tempfile.gettempdir()) / f"hybridhash_jax-numba-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == user
        if not is_ours or stat.S_IMODE(found.st_mode) & 0o077:
            raise PermissionError(f"{folder} is no folder of this user alone")
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        _warn(
            "compiled functions cannot be kept, since neither the installation nor a cache folder "
            f"can be written ({error}): they are compiled again at each start, which takes some "
            "seconds; set NUMBA_CACHE_DIR to a folder that can be written"
        )
        return None
    _warn(
        f"compiled functions are kept in {folder}, since neither the installation nor a cache "
        "folder can be written; NUMBA_CACHE_DIR chooses another folder"
    )
    return folder


@functools.cache
def _warn(text: str) -> None:
    """Says it once a process; a line on stderr where no logging is set up."""
    logging.getLogger(__name__).warning("%s", text)
