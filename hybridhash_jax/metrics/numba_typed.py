# pyright: basic
"""Numba with types: its own are too few for strict checks, so this file alone is not strict."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core import types
from numba.extending import intrinsic

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compiles a function on its first call and keeps the result beside the source file.

    It releases the GIL; a division by zero gives infinity.
    """
    return cast(_Function, numba.njit(nogil=True, cache=True, error_model="numpy")(function))


def _compile_popcount(typing_context: Any, word: Any) -> tuple[Any, Callable[..., Any]]:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


# Set bits of a uint64, one instruction where the machine has it. Numba has none of its own.
popcount = cast(Callable[[Any], Any], intrinsic(_compile_popcount))
