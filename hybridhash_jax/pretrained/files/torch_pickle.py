"""What PyTorch's weight files say about their tensors, read without running their pickles."""

import collections
import math
import pickle
from collections.abc import Callable
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

from hybridhash_jax.pretrained.errors import WeightFileError

STORAGE_DTYPES = {
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


class _StorageType(NamedTuple):
    """Stands for a storage class; a name, so that a pickle has nothing to call or alter."""

    name: str


class Storage(NamedTuple):
    """Where a tensor's numbers are: a record of the file, and how many it should hold."""

    kind: _StorageType
    key: str
    numel: int

    @property
    def dtype(self) -> np.dtype:
        """The type of the numbers."""
        return STORAGE_DTYPES[self.kind.name]


class Tensor(NamedTuple):
    """What the pickle says about a tensor; checked when the bytes are read."""

    storage: Any
    offset: Any
    size: Any
    stride: Any


class _WeightsUnpickler(pickle.Unpickler):
    """Admits what a state dict is made of. Everything found is inert until it is checked."""

    def __init__(self, file: IO[bytes], storages: dict[str, Storage]):
        super().__init__(file)
        self.storages = storages

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module_name == "torch" and global_name in STORAGE_DTYPES:
            return _StorageType(global_name)
        if module_name == "torch._utils" and global_name == "_rebuild_tensor_v2":
            return _make_rebuild_tensor()
        if module_name == "torch._utils" and global_name == "_rebuild_parameter":
            return _make_rebuild_parameter()
        raise WeightFileError(
            f"its pickle asks for {module_name}.{global_name}, which is no part of a state dict "
            "and was not run. If you trust the file, load it in PyTorch and save only the "
            "tensors: torch.save(model.state_dict(), path)."
        )

    def persistent_load(self, pid: Any, /) -> Storage:
        # Before version 1.6 a sixth entry could name a view of a storage; it was seldom used.
        if isinstance(pid, tuple) and pid[5:] == (None,):
            pid = pid[:5]
        match pid:
            case ("storage", _StorageType() as kind, str() as key, str(), int() as numel):
                self.storages[key] = Storage(kind, key, numel)
                return self.storages[key]
        raise WeightFileError(f"its pickle refers to {pid!r:.80}, which is no tensor storage.")


# A pickle may set attributes of any object it was given. These functions are therefore made
# anew each time: what a file does to one of them ends with that file.
def _make_rebuild_tensor() -> Any:
    def rebuild(
        storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, meta: Any = None
    ) -> Tensor:
        if meta:
            raise WeightFileError(
                f"a tensor carries the flags {meta!r:.80}, which change its values. Save it "
                "again after tensor.resolve_neg().resolve_conj()."
            )
        return Tensor(storage, offset, size, stride)

    return rebuild


def _make_rebuild_parameter() -> Any:
    return lambda data, _grad, _hooks: data


def unpickle(file: IO[bytes], storages: dict[str, Storage] | None = None) -> Any:
    """The next pickle of `file`, which ends up just behind it; adds its storages to `storages`.

    Raises:
      WeightFileError: it is damaged, or asks for more than tensors; nothing of it was run.
    """
    try:
        return _WeightsUnpickler(file, {} if storages is None else storages).load()
    except WeightFileError:
        raise
    except Exception as error:  # A damaged pickle can fail in any way; all of them mean this.
        raise WeightFileError(f"its pickle is damaged or malicious ({error!r}).") from error


def state_dict(content: Any, notes: list[str]) -> dict[str, Tensor]:
    """The named tensors of what was pickled; appends to `notes` from where they were taken.

    Raises:
      WeightFileError: it is no state dict, also under none of the usual keys.
    """
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
    return content


def materialize(
    name: str, tensor: Tensor, storages: dict[str, np.ndarray], read: Callable[[Storage], bytes]
) -> np.ndarray:
    """The tensor as a contiguous array of its own.

    Args:
      name: the tensor's, for messages.
      tensor: what the pickle says about it.
      storages: those that were read before, by key; added to.
      read: gives the bytes of a storage.

    Raises:
      WeightFileError: what the pickle says does not fit what the file holds.
    """
    what = f"tensor {name!r}"
    storage, offset, size, stride = tensor
    if not (
        isinstance(storage, Storage)
        and _are_counts((offset,))
        and _are_counts(size)
        and _are_counts(stride)
        and len(size) == len(stride)
    ):
        raise WeightFileError(f"{what} has a malformed shape or storage; the file is damaged.")
    if storage.key not in storages:
        storages[storage.key] = _numbers(what, storage, read(storage))
    flat = storages[storage.key]
    if flat.dtype != storage.dtype:
        raise WeightFileError(f"{what} reads storage {storage.key} under a second dtype.")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) and last >= len(flat):
        raise WeightFileError(
            f"{what} of shape {size} reaches element {last} of a storage of {len(flat)}; the "
            "file is damaged."
        )
    if not math.prod(size):
        return np.empty(size, flat.dtype)
    byte_strides = [step * flat.itemsize for step in stride]
    try:
        return np.lib.stride_tricks.as_strided(flat[offset:], size, byte_strides).copy(order="C")
    except (ValueError, MemoryError) as error:  # Strides of 0 can claim any size.
        raise WeightFileError(f"{what} of shape {size} does not fit in memory.") from error


def _are_counts(values: Any) -> bool:
    return isinstance(values, tuple) and all(type(v) is int and v >= 0 for v in values)


def _numbers(what: str, storage: Storage, data: bytes) -> np.ndarray:
    if len(data) != storage.numel * storage.dtype.itemsize:
        raise WeightFileError(
            f"{what} needs {storage.numel} elements of {storage.dtype} but its record has "
            f"{len(data)} bytes; the file is damaged."
        )
    return np.frombuffer(data, storage.dtype)
