"""Reads the pickles of CIFAR-10's python archive.

The files were written by Python 2 and NumPy 1, which spelled modules and dtype flags differently.
Stand-ins take the place of NumPy's names, so that not even its unpickling code is reached.
"""

import io
from typing import Any

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.restricted_pickle import load_restricted


def load_pickled_dict(data: bytes, name: str) -> dict[str, Any]:
    """Reads a pickled dict of plain values and uint8 arrays; gives it text keys.

    Any protocol up to 4, also written by Python 2, whose strings arrive as `bytes`. `name` is the
    file's, for error messages. DataError for a pickle that names anything else.
    """
    advice = "no CIFAR-10 batch needs: the file may be malicious; nothing of it was run"
    try:
        loaded = load_restricted(
            io.BytesIO(data), _make_stand_ins(), advice=advice, encoding="bytes"
        )
        if not isinstance(loaded, dict):
            raise DataError(f"a {type(loaded).__name__} is not a dict, as CIFAR-10's batches are")
        return {
            _text(key): value.array() if hasattr(value, "array") else value
            for key, value in loaded.items()
        }
    # A pickle may have set attributes of the stand-ins: hence the other two.
    except (DataError, TypeError, AttributeError) as refusal:
        raise DataError(f"{name}: {refusal}; get the file again") from refusal


def _make_stand_ins() -> dict[tuple[str, str], Any]:
    class Dtype:
        def __init__(self, spec: Any, align: Any = False, copy: Any = False) -> None:
            del align, copy
            if _text(spec) not in ("u1", "|u1", "uint8"):
                raise DataError(f"an array of dtype {_text(spec)!r} where only uint8 is expected")

        def __setstate__(self, state: Any) -> None:
            del state  # byte order and alignment, without meaning for single bytes

    class Array:
        state: Any = None

        def __setstate__(self, state: Any) -> None:
            self.state = state

        def array(self) -> np.ndarray:
            match self.state:
                case (_, tuple() as shape, Dtype(), fortran_order, bytes() as raw):
                    order = "F" if fortran_order else "C"
                    try:
                        return np.frombuffer(raw, np.uint8).reshape(shape, order=order)
                    except (ValueError, TypeError) as error:
                        raise DataError(f"an array is damaged ({error})") from error
            raise DataError("an array is not made of plain bytes")

    def reconstruct(cls: Any, shape: Any, typecode: Any) -> Array:
        del shape, typecode  # NumPy's placeholders; the real ones come with the state
        if cls is not Array:
            raise DataError("an array that is not a numpy.ndarray")
        return Array()

    def encode(text: Any, encoding: Any) -> bytes:
        """Python 3 writes bytes as this call in protocol 2."""
        if not isinstance(text, str) or _text(encoding) not in ("latin1", "latin-1"):
            raise DataError("a text encoding other than latin1")
        return text.encode("latin1")

    return {
        ("numpy.core.multiarray", "_reconstruct"): reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): reconstruct,
        ("numpy", "ndarray"): Array,
        ("numpy", "dtype"): Dtype,
        ("_codecs", "encode"): encode,
    }


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
