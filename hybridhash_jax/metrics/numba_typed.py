# pyright: basic
"""Numba with types: its own are too few for strict checks, so this file is not strict."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba.core import types
from numba.extending import intrinsic

from input_pipeline import compiled as cached

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compiles a function as `input_pipeline.compiled` does; a division by zero gives infinity.

    It releases the GIL, so that queries can be spread over threads.
    """
    return cached.compiled(function, error_model="numpy")


def _compile_popcount(typing_context: Any, word: Any) -> tuple[Any, Callable[..., Any]]:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


# Set bits of a uint64, one instruction where the machine has it. Numba has none of its own.
popcount = cast(Callable[[Any], Any], intrinsic(_compile_popcount))
