"""Reads weights that PyTorch users publish, without PyTorch and without running their pickles."""

import collections
import io
import math
import os
import pickle
import zipfile
import zlib
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

_STORAGE_DTYPES = {
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
_WRAPPERS = ("state_dict", "model")
_ZIP_MAGIC = b"PK\x03\x04"
_NAMES_SHOWN = 5


class WeightFileError(ValueError):
    """A weight file is missing, damaged, of another kind, or holds more than tensors."""


class _StorageType(NamedTuple):
    """Stands for a storage class; a name, so that a pickle has nothing to call or alter."""

    name: str


class _Storage(NamedTuple):
    kind: _StorageType
    key: str
    numel: int


class _Tensor(NamedTuple):
    """What the pickle says about a tensor; checked when the bytes are read."""

    storage: Any
    offset: Any
    size: Any
    stride: Any


def read_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads all tensors of a `.safetensors` file or of a file written by `torch.save`.

    The content decides which it is, not the file's name. A PyTorch file is read as weights
    only: its pickle can name tensors, storages and `OrderedDict`, and anything else is refused
    unexecuted. A state dict wrapped in a dict under "state_dict" or "model" is taken out; tensor
    names are returned as they stand.

    Args:
        path: a safetensors file, or a zip file of torch >= 1.6.

    Returns:
        name -> array of the stored dtype and shape (bfloat16 as `ml_dtypes.bfloat16`), each a
        contiguous array of its own.

    Raises:
        WeightFileError: missing, truncated or foreign file, legacy or big-endian PyTorch file,
            a pickle that asks for more than tensors, or a content that is no state dict.
    """
    head, size = _read_head(path)
    if head.startswith(_ZIP_MAGIC):
        return _read_torch_zip(path)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size:
        return _read_safetensors(path)
    if head.startswith(b"\x80"):
        raise WeightFileError(
            f"{path} is a bare pickle, such as torch.save wrote before version 1.6. Load it in "
            "PyTorch >= 1.6 and save it again with torch.save(state_dict, path), or convert it "
            "to .safetensors."
        )
    raise WeightFileError(
        f"{path} ({size} bytes) is neither a .safetensors file nor a zip file of torch.save. "
        "If it was downloaded, check that the download finished and is no web page."
    )


def _read_head(path: str | os.PathLike[str]) -> tuple[bytes, int]:
    try:
        with open(path, "rb") as file:
            return file.read(9), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise WeightFileError(
            f"cannot open the weight file {path}: {error.strerror}. Give the path of a "
            ".safetensors, .pth or .pt file."
        ) from error


def _read_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, KeyError) as error:
        raise WeightFileError(
            f"{path} looks like a .safetensors file but cannot be read ({error!r}): it is damaged "
            "or holds a dtype that NumPy lacks. Fetch it again, or save it as float32."
        ) from error


def _read_torch_zip(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            root = _archive_root(path, archive)
            _check_byte_order(path, archive, root)
            entries = _state_dict(path, _unpickle(path, archive.read(f"{root}/data.pkl")))
            storages: dict[str, np.ndarray] = {}
            return {
                name: _materialize(f"{path}: tensor {name!r}", tensor, archive, root, storages)
                for name, tensor in entries.items()
            }
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise WeightFileError(
            f"{path} is a truncated or damaged zip file ({error}). Fetch or save it again."
        ) from error


def _archive_root(path: str | os.PathLike[str], archive: zipfile.ZipFile) -> str:
    names = archive.namelist()
    roots = [name[: -len("/data.pkl")] for name in names if name.endswith("/data.pkl")]
    if len(roots) == 1:
        return roots[0]
    raise WeightFileError(
        f"{path} is a zip file with {len(roots)} data.pkl records, where torch.save writes one; "
        f"it holds {', '.join(names[:_NAMES_SHOWN]) or 'nothing'}. Give the .pth file itself."
    )


def _check_byte_order(path: str | os.PathLike[str], archive: zipfile.ZipFile, root: str) -> None:
    # Older versions write no such record, and ran on little-endian machines.
    if f"{root}/byteorder" not in archive.namelist():
        return
    order = archive.read(f"{root}/byteorder")
    if order != b"little":
        raise WeightFileError(
            f"{path} has byte order {order.decode('ascii', 'replace')!r}; only little-endian "
            "files are read. Load it in PyTorch on an x86 or ARM machine and save it again."
        )


class _WeightsUnpickler(pickle.Unpickler):
    """Admits what a state dict is made of. Everything found is inert until it is checked."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module_name == "torch" and global_name in _STORAGE_DTYPES:
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

    def persistent_load(self, pid: Any, /) -> _Storage:
        match pid:
            case ("storage", _StorageType() as kind, str() as key, str(), int() as numel):
                return _Storage(kind, key, numel)
        raise WeightFileError(f"its pickle refers to {pid!r:.80}, which is no tensor storage.")


# A pickle may set attributes of any object it was given. These functions are therefore made
# anew each time: what a file does to one of them ends with that file.
def _make_rebuild_tensor() -> Any:
    def rebuild(
        storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, meta: Any = None
    ) -> _Tensor:
        if meta:
            raise WeightFileError(
                f"a tensor carries the flags {meta!r:.80}, which change its values. Save it "
                "again after tensor.resolve_neg().resolve_conj()."
            )
        return _Tensor(storage, offset, size, stride)

    return rebuild


def _make_rebuild_parameter() -> Any:
    return lambda data, _grad, _hooks: data


def _unpickle(path: str | os.PathLike[str], data: bytes) -> Any:
    try:
        return _WeightsUnpickler(io.BytesIO(data)).load()
    except WeightFileError as error:
        raise WeightFileError(f"{path}: {error}") from None
    except Exception as error:  # A damaged pickle can fail in any way; all of them mean this.
        raise WeightFileError(f"{path}: its pickle is damaged or malicious ({error!r}).") from error


def _state_dict(path: str | os.PathLike[str], content: Any) -> dict[str, _Tensor]:
    if isinstance(content, dict):
        wrapped = next((content[key] for key in _WRAPPERS if key in content), None)
        content = wrapped if isinstance(wrapped, dict) else content
    if not isinstance(content, dict):
        raise WeightFileError(
            f"{path} holds a {type(content).__name__.strip('_')}, not a state dict. Save it with "
            "torch.save(model.state_dict(), path)."
        )
    others = [
        f"{key!r} ({type(value).__name__.strip('_')})"
        for key, value in content.items()
        if not (isinstance(key, str) and isinstance(value, _Tensor))
    ]
    if others:
        raise WeightFileError(
            f"{path} is no state dict: {len(others)} of its {len(content)} entries are no named "
            f"tensors, such as {', '.join(others[:_NAMES_SHOWN])}. Save only the state dict, at "
            f"the top or under {' or '.join(map(repr, _WRAPPERS))}."
        )
    return content


def _materialize(
    what: str,
    tensor: _Tensor,
    archive: zipfile.ZipFile,
    root: str,
    storages: dict[str, np.ndarray],
) -> np.ndarray:
    storage, offset, size, stride = tensor
    if not (
        isinstance(storage, _Storage)
        and _are_counts((offset,))
        and _are_counts(size)
        and _are_counts(stride)
        and len(size) == len(stride)
    ):
        raise WeightFileError(f"{what} has a malformed shape or storage; the file is damaged.")
    if storage.key not in storages:
        storages[storage.key] = _read_storage(what, storage, archive, root)
    flat = storages[storage.key]
    if flat.dtype != _STORAGE_DTYPES[storage.kind.name]:
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


def _read_storage(what: str, storage: _Storage, archive: zipfile.ZipFile, root: str) -> np.ndarray:
    dtype = _STORAGE_DTYPES[storage.kind.name]
    try:
        data = archive.read(f"{root}/data/{storage.key}")
    except KeyError:
        raise WeightFileError(
            f"{what} needs the record data/{storage.key}, which the file lacks; fetch or save it "
            "again."
        ) from None
    if len(data) != storage.numel * dtype.itemsize:
        raise WeightFileError(
            f"{what} needs {storage.numel} elements of {dtype} but its record has {len(data)} "
            "bytes; the file is damaged."
        )
    return np.frombuffer(data, dtype)
