"""The files that torch.save writes, built from the pickle opcodes it emits, without torch."""

import pathlib
import pickle
import struct
import zipfile
from typing import Any, NamedTuple

import numpy as np


class Global(NamedTuple):
    module: str
    name: str


class Call(NamedTuple):
    function: Any
    arguments: tuple


class Persistent(NamedTuple):
    identity: tuple


class Built(NamedTuple):
    """An object that was given attributes, as a state dict is given `_metadata`."""

    target: Any
    state: Any


class Ordered(NamedTuple):
    items: dict


REBUILD_TENSOR = Global("torch._utils", "_rebuild_tensor_v2")
REBUILD_PARAMETER = Global("torch._utils", "_rebuild_parameter")
ORDERED_DICT = Global("collections", "OrderedDict")


def encode(value: Any) -> bytes:
    """Encodes a value as pickle opcodes of protocol 2, the one torch.save uses."""
    match value:
        case Global():
            return b"c" + f"{value.module}\n{value.name}\n".encode()
        case Call():
            return encode(value.function) + encode(value.arguments) + b"R"
        case Persistent():
            return encode(value.identity) + b"Q"
        case Built():
            return encode(value.target) + encode(value.state) + b"b"
        case Ordered():
            return encode(Call(ORDERED_DICT, ())) + encode_items(value.items)
        case dict():
            return b"}" + encode_items(value)
        case tuple():
            return b"(" + b"".join(map(encode, value)) + b"t"
        case list():
            return b"(" + b"".join(map(encode, value)) + b"l"
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return f"I{value}\n".encode()
    raise TypeError(type(value))


def encode_items(items: dict) -> bytes:
    return b"(" + b"".join(encode(key) + encode(value) for key, value in items.items()) + b"u"


def storage(key: str, numel: int, kind: str = "FloatStorage") -> Persistent:
    return Persistent(("storage", Global("torch", kind), key, "cuda:0", numel))


def tensor(source: Any, size: tuple, stride: tuple, offset: int = 0, *flags: Any) -> Call:
    hooks = Call(ORDERED_DICT, ())
    return Call(REBUILD_TENSOR, (source, offset, size, stride, False, hooks, *flags))


def write_zip(path: pathlib.Path, content: Any, storages: dict, **records: bytes) -> pathlib.Path:
    data = content if isinstance(content, bytes) else b"\x80\x02" + encode(content) + b"."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for name, record in records.items():
            archive.writestr(f"archive/{name}", record)
        for key, array in storages.items():
            archive.writestr(f"archive/data/{key}", np.asarray(array).tobytes())
        archive.writestr("archive/version", b"3\n")
    return path


MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"long": 4}}


def write_legacy(
    path: pathlib.Path, content: Any, storages: dict, magic=0x1950A86A20F9469CFC6C, machine=MACHINE
) -> pathlib.Path:
    """The five pickles and the raw storages of torch.save before version 1.6."""
    parts = [pickle.dumps(magic, 2), pickle.dumps(1001, 2), pickle.dumps(machine, 2)]
    parts.append(b"\x80\x02" + encode(content) + b".")
    parts.append(pickle.dumps(list(storages), 2))
    for array in storages.values():
        parts += [struct.pack("<q", array.size), array.tobytes()]
    path.write_bytes(b"".join(parts))
    return path


def legacy_storage(key: str, numel: int, kind: str = "FloatStorage", view: Any = None):
    return Persistent((*storage(key, numel, kind).identity, view))
