"""One run at a time in a workdir: a file that says which process is at work there."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hybridhash_jax.runtime import lock_file
from hybridhash_jax.workdir import names


class WorkdirInUseError(ValueError):
    """Another process trains into the workdir; says which, and what to do."""


def check_free(workdir: Path, *, watch: bool = False) -> None:
    """Refuses a workdir that another living process holds; changes nothing.

    With `watch` it waits for a sign of life of one on another machine, see `lock_file`.

    Raises:
      WorkdirInUseError: names process and host.
    """
    holder = lock_file.living_holder(workdir / names.LOCK, watch=watch)
    if holder is not None:
        raise _in_use(workdir, holder)


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
    """Holds the workdir inside the block.

    The folder is made, and removed again if nothing was written to it. Where its file system keeps
    no such file, nothing is held.

    Raises:
      WorkdirInUseError: another process was faster.
    """
    check_free(workdir)
    is_new = not workdir.exists()
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"--workdir={workdir} cannot be made ({error.strerror}); give a folder that can be written"
        ) from error
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock_file.held(workdir / names.LOCK))
        except lock_file.HeldError as error:
            raise _in_use(workdir, error.holder) from None
        except OSError:
            is_new = False
        try:
            yield
        finally:
            stack.close()
            if is_new:
                with contextlib.suppress(OSError):
                    workdir.rmdir()  # only if it is empty


def _in_use(workdir: Path, holder: dict[str, Any]) -> WorkdirInUseError:
    return WorkdirInUseError(
        f"{workdir} is in use: {lock_file.described(holder)} trains there since "
        f"{holder.get('since', '?')}. Wait for it or stop it, or choose another --workdir. "
        f"If there is no such process, remove {workdir / names.LOCK}"
    )
