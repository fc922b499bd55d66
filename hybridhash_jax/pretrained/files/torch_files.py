"""Reads weights that PyTorch users publish, without PyTorch and without running their pickles."""

import io
import json
import os
import pathlib
import zipfile
import zlib
from typing import IO, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from hybridhash_jax.pretrained.errors import WeightFileError
from hybridhash_jax.pretrained.files import torch_legacy, torch_pickle
from hybridhash_jax.pretrained.files.locations import locate
from input_pipeline.vectors.file_kinds import kind_of

_ZIP_MAGIC = b"PK\x03\x04"
_NAMES_SHOWN = 5


class TensorFile(NamedTuple):
    """A file's content; dtypes and names as stored (bfloat16 as `ml_dtypes.bfloat16`)."""

    tensors: dict[str, np.ndarray]
    notes: list[str]  # what to know about the reading
    metadata: dict[str, str]  # of a safetensors file


def read_tensors(path: str | os.PathLike[str]) -> TensorFile:
    """Reads all tensors of a `.safetensors` file or of a file written by `torch.save`.

    The content decides which it is. A PyTorch file, of today's zip format or of the one before
    version 1.6, is read as weights only: a pickle that names more than tensors, storages and
    `OrderedDict` is refused unexecuted. A state dict under a usual key ("state_dict", "model",
    "ema" and alike) is taken out, and noted. All else is a WeightFileError.
    """
    place = locate(path)
    try:
        with place.open("rb") as file:
            head, size = file.read(256), file.seek(0, os.SEEK_END)
            file.seek(0)
            if head.startswith(_ZIP_MAGIC):
                return _read_torch_zip(file)
            if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size:
                return _read_safetensors(place)
            if head.startswith(b"\x80\x02"):
                return TensorFile(*torch_legacy.read(file), {})
    except OSError as error:
        raise WeightFileError(
            f"cannot open the weight file {path}: {error.strerror or error}. Give the path of a "
            ".safetensors, .pth or .pt file."
        ) from error
    except WeightFileError as error:
        raise WeightFileError(f"{path}: {error}") from error.__cause__
    if head[8:10] in (b'{"', b"{ "):
        raise WeightFileError(
            f"{path} ({size} bytes) is a .safetensors file cut short; fetch it again"
        )
    raise WeightFileError(
        f"{path} ({size} bytes) is {kind_of(head)}, and neither a .safetensors file, nor a file of "
        "torch.save, nor a Flax checkpoint. If it was downloaded, check that the download finished "
        "and is no web page."
    )


def _read_safetensors(place: pathlib.Path) -> TensorFile:
    try:
        if not isinstance(place, pathlib.Path):
            data = place.read_bytes()
            tensors = safetensors.numpy.load(data)
            # Only for files on a disk the package gives the metadata: they are in the JSON header,
            # whose length the first 8 bytes tell.
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            return TensorFile(tensors, [], header.get("__metadata__") or {})
        with safetensors.safe_open(place, "np") as file:
            metadata = file.metadata() or {}
        return TensorFile(safetensors.numpy.load_file(place), [], metadata)
    except (safetensors.SafetensorError, KeyError) as error:
        raise WeightFileError(
            "it looks like a .safetensors file but cannot be read: it is damaged or "
            "holds a dtype that NumPy lacks. Fetch it again, or save it as float32."
        ) from error


def _read_torch_zip(file: IO[bytes]) -> TensorFile:
    try:
        with zipfile.ZipFile(file) as archive:
            root = _archive_root(archive)

            def record(storage: torch_pickle.Storage) -> bytes:
                try:
                    return archive.read(f"{root}/data/{storage.key}")
                except KeyError:
                    raise WeightFileError(
                        f"a tensor needs the record data/{storage.key}, which the file lacks; "
                        "fetch or save it again."
                    ) from None

            content = torch_pickle.unpickle(io.BytesIO(archive.read(f"{root}/data.pkl")))
            return TensorFile(*torch_pickle.read_state_dict(content, record), {})
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise WeightFileError(
            f"it is a truncated or damaged zip file ({error}). Fetch or save it again."
        ) from error


def _archive_root(archive: zipfile.ZipFile) -> str:
    names = archive.namelist()
    roots = [name[: -len("/data.pkl")] for name in names if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise WeightFileError(
            f"it is a zip file with {len(roots)} data.pkl records, where torch.save writes one; it "
            f"holds {', '.join(names[:_NAMES_SHOWN]) or 'nothing'}. Give the .pth file itself."
        )
    # Older versions write no byte order, and ran on little-endian machines.
    order = archive.read(f"{roots[0]}/byteorder") if f"{roots[0]}/byteorder" in names else b"little"
    if order != b"little":
        raise WeightFileError(
            f"it has byte order {order.decode('ascii', 'replace')!r}; only little-endian files "
            "are read. Load it in PyTorch on an x86 or ARM machine and save it again."
        )
    return roots[0]
