"""The memory that a CPU's programs work in, kept from one run of a program to its next."""

import ctypes
import sys

import jax

# Names and numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER, _NONE = -1, 0


def compute_on_calling_thread() -> None:
    """A program on a CPU runs on the thread that calls it, and takes its memory there.

    That thread's heap can keep pieces of any size, those of other threads only small ones. To be
    called before JAX looks for devices; changes nothing on accelerators, nor where one process has
    several devices, which have threads of their own.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def keep_freed_memory() -> bool:
    """This process keeps what it frees from now on; what is free already is given back.

    To be called after the large programs were compiled, which leaves much that is free; may be
    called again after more. Returns whether it does: not on accelerators, nor without glibc.
    """
    # XLA takes a program's working memory anew for each run (1 GiB for a step of the published
    # network at batch 4). glibc would map and clear every page of it again in every run.
    if jax.default_backend() != "cpu" or sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    library.malloc_trim(0)
    accepted = library.mallopt(_M_MMAP_MAX, _NONE) + library.mallopt(_M_TRIM_THRESHOLD, _NEVER)
    return accepted == 2
