"""The format of torch.save before version 1.6, in which many published weights still are.

Five pickles one after another (a magic number, a protocol number, facts about the machine, the
content, the keys of its storages), then for each key the count of its numbers and their bytes.
"""

import os
from typing import IO, Any

import numpy as np

from hybridhash_jax.pretrained.errors import WeightFileError
from hybridhash_jax.pretrained.files import torch_pickle

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_COUNT_BYTES = 8
_AGAIN = (
    "If you trust the file, load it in PyTorch and save it again with "
    "torch.save(state_dict, path), or convert it to .safetensors."
)


def read(file: IO[bytes]) -> tuple[dict[str, np.ndarray], list[str]]:
    """(name -> array, notes) of an open file.

    Raises:
      WeightFileError: another kind of pickle, a damaged file, or a pickle that asks for more than
        tensors; nothing of it was run.
    """
    notes: list[str] = []
    if torch_pickle.unpickle(file) != _MAGIC:
        raise WeightFileError(f"it is a bare pickle, not a file of torch.save. {_AGAIN}")
    protocol, machine = torch_pickle.unpickle(file), torch_pickle.unpickle(file)
    if protocol != _PROTOCOL or not isinstance(machine, dict):
        raise WeightFileError(f"it has the unknown protocol {protocol!r:.40}. {_AGAIN}")
    if machine.get("little_endian") is not True:
        raise WeightFileError(f"it was written on a big-endian machine. {_AGAIN}")
    declared: dict[str, torch_pickle.Storage] = {}
    content = torch_pickle.unpickle(file, declared)
    data = _storage_bytes(file, torch_pickle.unpickle(file), declared)
    storages: dict[str, np.ndarray] = {}
    tensors = {
        name: torch_pickle.materialize(name, tensor, storages, lambda s: _of(data, s))
        for name, tensor in torch_pickle.state_dict(content, notes).items()
    }
    return tensors, notes


def _storage_bytes(
    file: IO[bytes], keys: Any, declared: dict[str, torch_pickle.Storage]
) -> dict[str, bytes]:
    """The bytes of each storage, in the order of the file."""
    data: dict[str, bytes] = {}
    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, str) or key not in declared:
            # A storage's type says how long it is: without one, nothing behind it can be found.
            raise WeightFileError(f"it has a storage {key!r:.40} that no tensor names. {_AGAIN}")
        storage = declared[key]
        numel = int.from_bytes(file.read(_COUNT_BYTES), "little", signed=True)
        size = numel * storage.dtype.itemsize
        if numel != storage.numel or not 0 <= size <= _bytes_left(file):
            raise WeightFileError(
                f"storage {key} should have {storage.numel} numbers but the file says {numel} and "
                f"goes on for {_bytes_left(file)} bytes; it is truncated or damaged. Fetch it again."
            )
        data[key] = file.read(size)
    return data


def _bytes_left(file: IO[bytes]) -> int:
    here = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(here)
    return end - here


def _of(data: dict[str, bytes], storage: torch_pickle.Storage) -> bytes:
    if storage.key not in data:
        raise WeightFileError(f"storage {storage.key} is not in the file. {_AGAIN}")
    return data[storage.key]
