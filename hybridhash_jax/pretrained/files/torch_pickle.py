"""What PyTorch's weight files say about their tensors, read without running their pickles."""

import collections
import math
from collections.abc import Callable
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

from hybridhash_jax.pretrained.errors import WeightFileError
from input_pipeline.restricted_pickle import load_restricted

_DTYPES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
# Where training programs keep the weights, the first that is there; the averaged ones come last.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema", "ema")
_NAMES_SHOWN = 5
_ADVICE = (
    "is no part of a state dict and was not run. If you trust the file, load it in PyTorch and save "
    "only the tensors: torch.save(model.state_dict(), path)."
)


class _StorageType(NamedTuple):
    """Stands for a storage class; a name, so that a pickle has nothing to call or alter."""

    name: str


class Storage(NamedTuple):
    """Where a tensor's numbers are: a record of the file, and how many it should hold."""

    dtype: np.dtype
    key: str
    numel: int


class Tensor(NamedTuple):
    """What the pickle says about a tensor; checked when the bytes are read."""

    storage: Any
    offset: Any
    size: Any
    stride: Any


def unpickle(file: IO[bytes], storages: dict[str, Storage] | None = None) -> Any:
    """The next pickle of `file`, which ends up just behind it; adds its storages to `storages`."""

    def rebuild_tensor(
        storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, meta: Any = None
    ) -> Tensor:
        if meta:
            raise WeightFileError(
                f"a tensor carries the flags {meta!r:.80}, which change its values. Save it "
                "again after tensor.resolve_neg().resolve_conj()."
            )
        return Tensor(storage, offset, size, stride)

    def storage_of(pid: Any) -> Storage:
        # Before version 1.6 a sixth entry could name a view of a storage; it was seldom used.
        if isinstance(pid, tuple) and pid[5:] == (None,):
            pid = pid[:5]
        match pid:
            case ("storage", _StorageType() as kind, str() as key, str(), int() as numel):
                found = Storage(_DTYPES[kind.name], key, numel)
                if storages is not None:
                    storages[key] = found
                return found
        raise WeightFileError(f"its pickle refers to {pid!r:.80}, which is no tensor storage.")

    allowed = {("torch", name): _StorageType(name) for name in _DTYPES} | {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): lambda data, _grad, _hooks: data,
    }
    return load_restricted(
        file, allowed, advice=_ADVICE, error=WeightFileError, persistent_load=storage_of
    )


def read_state_dict(
    content: Any, read: Callable[[Storage], bytes]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """(named tensors, each a contiguous array of its own; notes) of what `unpickle` gave.

    `read` gives the bytes of a storage. WeightFileError: it is no state dict, also under none of the
    usual keys, or what the pickle says does not fit what the file holds.
    """
    notes = []
    while isinstance(content, dict):
        wrapped = [key for key in _WRAPPERS if isinstance(content.get(key), dict)]
        if not wrapped:
            break
        others = [repr(key) for key in content if key != wrapped[0]]
        aside = f"; not read: {', '.join(others[:_NAMES_SHOWN])}" if others else ""
        notes.append(f"weights taken from the file's {wrapped[0]!r}{aside}")
        content = content[wrapped[0]]
    if not isinstance(content, dict):
        raise WeightFileError(
            f"it holds a {type(content).__name__}, not a state dict. Save it with "
            "torch.save(model.state_dict(), path)."
        )
    others = [
        f"{key!r} ({type(value).__name__})"
        for key, value in content.items()
        if not (isinstance(key, str) and isinstance(value, Tensor))
    ]
    if others:
        raise WeightFileError(
            f"it is no state dict: {len(others)} of its {len(content)} entries are no named "
            f"tensors, such as {', '.join(others[:_NAMES_SHOWN])}. Save only the state dict, at "
            f"the top or under one of {', '.join(map(repr, _WRAPPERS))}."
        )
    flat: dict[str, np.ndarray] = {}
    arrays = {name: _array(f"tensor {name!r}", t, flat, read) for name, t in content.items()}
    return arrays, notes


def _array(
    what: str, tensor: Tensor, flat: dict[str, np.ndarray], read: Callable[[Storage], bytes]
) -> np.ndarray:
    """The tensor's values; `flat` keeps the storages that were read."""
    storage, offset, size, stride = tensor
    counts = (offset,), size, stride
    if not (isinstance(storage, Storage) and all(map(_are_counts, counts))) or len(size) != len(
        stride
    ):
        raise WeightFileError(f"{what} has a malformed shape or storage; the file is damaged.")
    if storage.key not in flat:
        data = read(storage)
        if len(data) != storage.numel * storage.dtype.itemsize:
            raise WeightFileError(
                f"{what} needs {storage.numel} elements of {storage.dtype} but its record has "
                f"{len(data)} bytes; the file is damaged."
            )
        flat[storage.key] = np.frombuffer(data, storage.dtype)
    values = flat[storage.key]
    if values.dtype != storage.dtype:
        raise WeightFileError(f"{what} reads storage {storage.key} under a second dtype.")
    if not math.prod(size):
        return np.empty(size, values.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= len(values):
        raise WeightFileError(
            f"{what} of shape {size} reaches element {last} of a storage of {len(values)}; the "
            "file is damaged."
        )
    strides = [step * values.itemsize for step in stride]
    try:
        return np.lib.stride_tricks.as_strided(values[offset:], size, strides).copy(order="C")
    except (ValueError, MemoryError) as error:  # Strides of 0 can claim any size.
        raise WeightFileError(f"{what} of shape {size} does not fit in memory.") from error


def _are_counts(values: Any) -> bool:
    return isinstance(values, tuple) and all(type(v) is int and v >= 0 for v in values)
