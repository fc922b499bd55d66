"""Reads the pickles of CIFAR-10's python archive without giving a pickle any power.

A pickle is a program: it may name any function of any module and call it. These files need
five names, and each is replaced here by a small function or class of our own, so that not even
NumPy's unpickling code is reached. That also keeps them readable whatever NumPy does: the
files were written by Python 2 and NumPy 1, which spelled modules and dtype flags differently.
"""

import io
import pickle
from typing import Any

import numpy as np

from input_pipeline.errors import DataError


def load_pickled_dict(data: bytes, name: str) -> dict[str, Any]:
    """Reads a pickled dict of plain values and uint8 arrays.

    Args:
      data: the pickle (any protocol up to 4, also one written by Python 2).
      name: the file's name, for error messages.

    Returns:
      The dict, with text keys. Strings of Python 2 arrive as `bytes`; arrays are uint8 and
      C-ordered.

    Raises:
      DataError: for a damaged pickle, one that names anything but a plain NumPy array, an
        array that is not uint8, or a value that is not a dict.
    """
    try:
        loaded = _RestrictedUnpickler(io.BytesIO(data), encoding="bytes").load()
    except DataError as refusal:
        raise DataError(f"{name}: {refusal}") from None
    except Exception as error:  # the pickle module documents that damage may raise anything
        raise DataError(
            f"{name} is damaged ({type(error).__name__}: {error}); get the file again"
        ) from error
    if not isinstance(loaded, dict):
        raise DataError(f"{name} holds a {type(loaded).__name__}; a CIFAR-10 batch is a dict")
    return {_text(key): _plain(value) for key, value in loaded.items()}


class _PickledDtype:
    """Stands in for `numpy.dtype`: only the unsigned byte exists."""

    def __init__(self, spec: Any, align: Any = False, copy: Any = False) -> None:
        # Old NumPy wrote the two flags as 0 and 1, of which NumPy 2 warns; they mean nothing.
        del align, copy
        if _text(spec) not in ("u1", "|u1", "uint8"):
            raise DataError(
                f"refused an array of dtype {_text(spec)!r}: CIFAR-10 images are uint8 ('u1')"
            )

    def __setstate__(self, state: Any) -> None:
        del state  # byte order and alignment, without meaning for single bytes


class _PickledArray:
    """Stands in for `numpy.ndarray`: an empty shell that pickle's BUILD step fills."""

    array: np.ndarray

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran_order, raw = state
        if not isinstance(dtype, _PickledDtype) or not isinstance(raw, bytes):
            raise DataError("refused an array that is not made of plain bytes")
        order = "F" if fortran_order else "C"
        self.array = np.frombuffer(raw, np.uint8).reshape(shape, order=order)


def _reconstruct(cls: Any, shape: Any, typecode: Any) -> _PickledArray:
    del shape, typecode  # NumPy's placeholders; the real shape comes with BUILD
    if cls is not _PickledArray:
        raise DataError("refused an array that is not a numpy.ndarray")
    return _PickledArray()


def _encode(text: Any, encoding: Any) -> bytes:
    """Stands in for `_codecs.encode`, by which Python 3 writes bytes in protocol 2."""
    if not isinstance(text, str) or _text(encoding) not in ("latin1", "latin-1"):
        raise DataError("refused a text encoding other than latin1")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _PickledArray,
    ("numpy", "dtype"): _PickledDtype,
    ("_codecs", "encode"): _encode,
}


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            raise DataError(
                f"refused the global {module_name}.{global_name}: a CIFAR-10 batch needs "
                "nothing but NumPy arrays, so this file may be malicious; nothing of it was run"
            ) from None


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, _PickledArray):
        if not hasattr(value, "array"):
            raise DataError("an array in the pickle has no contents; get the file again")
        return value.array
    return value
