"""The format of torch.save before version 1.6, in which many published weights still are.

Five pickles one after another (a magic number, a protocol number, facts about the machine, the
content, the keys of its storages), then for each key the count of its numbers and their bytes.
"""

import os
from typing import IO

import numpy as np

from hybridhash_jax.pretrained.errors import WeightFileError
from hybridhash_jax.pretrained.files.torch_pickle import Storage, read_state_dict, unpickle

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_COUNT_BYTES = 8
_AGAIN = (
    "If you trust the file, load it in PyTorch and save it again with "
    "torch.save(state_dict, path), or convert it to .safetensors."
)


def read(file: IO[bytes]) -> tuple[dict[str, np.ndarray], list[str]]:
    """(name -> array, notes) of an open file; nothing of it is run."""
    if unpickle(file) != _MAGIC:
        raise WeightFileError(f"it is a bare pickle, not a file of torch.save. {_AGAIN}")
    protocol, machine = unpickle(file), unpickle(file)
    if protocol != _PROTOCOL or not isinstance(machine, dict):
        raise WeightFileError(f"it has the unknown protocol {protocol!r:.40}. {_AGAIN}")
    if machine.get("little_endian") is not True:
        raise WeightFileError(f"it was written on a big-endian machine. {_AGAIN}")
    declared: dict[str, Storage] = {}
    content, keys = unpickle(file, declared), unpickle(file)
    data: dict[str, bytes] = {}
    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, str) or key not in declared:
            # A storage's type says how long it is: without one, nothing behind it can be found.
            raise WeightFileError(f"it has a storage {key!r:.40} that no tensor names. {_AGAIN}")
        data[key] = _storage_bytes(file, declared[key])

    def bytes_of(storage: Storage) -> bytes:
        if storage.key not in data:
            raise WeightFileError(f"storage {storage.key} is not in the file. {_AGAIN}")
        return data[storage.key]

    return read_state_dict(content, bytes_of)


def _storage_bytes(file: IO[bytes], storage: Storage) -> bytes:
    numel = int.from_bytes(file.read(_COUNT_BYTES), "little", signed=True)
    here = file.tell()
    left = file.seek(0, os.SEEK_END) - here
    file.seek(here)
    size = numel * storage.dtype.itemsize
    if numel != storage.numel or not 0 <= size <= left:
        raise WeightFileError(
            f"storage {storage.key} should have {storage.numel} numbers but the file says {numel} "
            f"and goes on for {left} bytes; it is truncated or damaged. Fetch it again."
        )
    return file.read(size)
