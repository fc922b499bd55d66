"""Compiling what is needed later while the devices are busy with what is needed now."""

import threading
from collections.abc import Callable
from typing import Any

import jax

from hybridhash_jax.runtime.console import logger


class BackgroundCompilation:
    """A thread that compiles one jitted function, which then finds its program ready.

    A failure is only logged: the call itself will compile, or fail, again. The program does not
    end before the thread does.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def start(self, lower: Callable[..., Any], *arguments: Any) -> None:
        """Begins with `lower(*arguments).compile()`; of the arguments only the shapes are kept.

        Args:
          lower: a jitted function's `lower`, or what ends in one.
          *arguments: pytrees of arrays, which may be given away as soon as this returns.
        """
        shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), arguments
        )
        self._thread = threading.Thread(target=_compile, args=(lower, shapes))
        self._thread.start()

    def wait(self) -> None:
        """Returns when the program is ready; at once if nothing was started."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None


def _compile(lower: Callable[..., Any], shapes: tuple[Any, ...]) -> None:
    try:
        lower(*shapes).compile()
    except (RuntimeError, TypeError, ValueError) as error:
        logger.warning("compiling the evaluation ahead failed (%s); it will be tried again", error)
