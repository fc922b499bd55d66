"""Reads the official CIFAR-10 files, unpacked or straight from the archive.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009),
https://www.cs.toronto.edu/~kriz/cifar.html. The python and the binary version hold the same
images in the same order: five files of 10,000 training images, one of 10,000 test images.
"""

import functools
import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from input_pipeline.errors import DataError, of_system
from input_pipeline.messages import shortened
from input_pipeline.sets.cifar10_pickle import load_pickled_dict
from input_pipeline.sets.download import fetch
from input_pipeline.sets.pooled import PooledImages

_NAMES = "airplane automobile bird cat deer dog frog horse ship truck"
CLASS_NAMES = tuple(_NAMES.split())
DEFAULT_DIRECTORY = "~/.cache/hybridhash_jax/cifar10"
IMAGES_PER_FILE = 10_000

PYTHON_ARCHIVE = "cifar-10-python.tar.gz"
PYTHON_URL = f"https://www.cs.toronto.edu/~kriz/{PYTHON_ARCHIVE}"
PYTHON_ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
BINARY_ARCHIVE = "cifar-10-binary.tar.gz"
BINARY_ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"

# In pooled order: the official training files, then the test file.
PYTHON_FILES_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}

_OFFICIAL_PYTHON = "the official CIFAR-10 python files (the MD5 of all six matches)"
_OFFICIAL_BINARY = "the official CIFAR-10 binary archive (its MD5 matches)"
_NOT_OFFICIAL = (
    "not the official files (MD5 differs): results are not comparable with published CIFAR-10 "
    "numbers"
)
_UNKNOWN_BINARY = (
    "CIFAR-10 binary files that cannot be told from altered ones (only the official archive has "
    "a published MD5, and this is not it)"
)

_PIXELS = 3 * 32 * 32
_md5 = functools.partial(hashlib.md5, usedforsecurity=False)
# The official python files are 31.0 MB each. A member far above that is not one of them.
_MAX_FILE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class _Layout:
    """One of the two official versions: its folder, its files in order, how to read one."""

    folder: str
    files: tuple[str, ...]
    parse: Callable[[bytes, str, int], tuple[np.ndarray, np.ndarray]]


def read_cifar10(
    directory: str | None, *, download: bool = True, images_per_file: int = IMAGES_PER_FILE
) -> PooledImages:
    """Reads CIFAR-10 from wherever it is under `directory`, downloading it if it is not.

    `directory` holds the unpacked files, or `cifar-10-batches-py`, `cifar-10-batches-bin`,
    `cifar-10-python.tar.gz` or `cifar-10-binary.tar.gz` (tried in that order), or is such an
    archive; None: `DEFAULT_DIRECTORY`. `download` fetches the python archive (170 MB) into it.
    """
    root = Path(directory or DEFAULT_DIRECTORY).expanduser().absolute()
    found = _find(root)
    if found is None:
        inside = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
        if directory and inside:
            raise DataError(
                f"no CIFAR-10 files in {root}, which holds {shortened(inside)}: give an empty folder "
                f"to download into, or another one. {_advice(root)}"
            )
        if not download:
            raise DataError(f"no CIFAR-10 files in {root}, and downloading is off. {_advice(root)}")
        found = root / PYTHON_ARCHIVE
        try:
            fetch(PYTHON_URL, found, PYTHON_ARCHIVE_MD5)
        except DataError as error:
            raise DataError(f"{error}. {_advice(root)}") from error
    blobs = _folder_blobs(found) if found.is_dir() else _archive_blobs(found)
    return _pool(blobs, found, images_per_file)


def _find(root: Path) -> Path | None:
    """The folder or archive to read, or None if there is neither."""
    if root.is_file():
        return root
    for folder in (root, *(root / layout.folder for layout in _LAYOUTS)):
        if any((folder / name).is_file() for layout in _LAYOUTS for name in layout.files):
            return folder
    archives = (root / PYTHON_ARCHIVE, root / BINARY_ARCHIVE)
    return next((path for path in archives if path.is_file()), None)


def _advice(root: Path) -> str:
    return (
        f"Put {PYTHON_ARCHIVE} from {PYTHON_URL} into the folder {root} (it need not be "
        "unpacked), or say where the files are with --config.data.dir=FOLDER"
    )


def _folder_blobs(folder: Path) -> Iterator[tuple[str, bytes]]:
    files = next(x.files for x in _LAYOUTS if any((folder / name).is_file() for name in x.files))
    for name in files:
        try:
            yield name, (folder / name).read_bytes()
        except OSError as error:
            raise DataError(f"cannot read {folder / name} ({error}). {_advice(folder)}") from error


def _archive_blobs(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yields the official files of an archive; no other member is read, nothing unpacked."""
    wanted = {f"{layout.folder}/{name}": name for layout in _LAYOUTS for name in layout.files}
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                name = wanted.get(member.name.removeprefix("./"))
                if name is None:
                    continue
                file = archive.extractfile(member) if member.isreg() else None
                if file is None or member.size > _MAX_FILE_BYTES:
                    raise DataError(f"{path}: {member.name} is not a file of CIFAR-10's size")
                yield name, file.read()
            # tarfile takes a damaged header for the end, and gzip compares its checksum only at
            # the very end of the stream, so read up to there.
            while stream.read(_MAX_FILE_BYTES):
                pass
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        if of_system(error):
            raise
        raise DataError(
            f"{path} is truncated or damaged ({error}); delete it and download it again"
        ) from error


def _pool(blobs: Iterator[tuple[str, bytes]], source: Path, images_per_file: int) -> PooledImages:
    """Puts the files of one version together; the first that comes says which version."""
    layout, images, class_ids, md5s = None, np.empty(0), np.empty(0), {}
    for name, blob in blobs:
        if layout is None:
            layout = next(layout for layout in _LAYOUTS if name in layout.files)
            images = np.empty((len(layout.files), images_per_file, 32, 32, 3), np.uint8)
            class_ids = np.empty(images.shape[:2], np.int64)
        if name not in layout.files or name in md5s:
            continue
        flat, classes = layout.parse(blob, str(source / name), images_per_file)
        place = layout.files.index(name)
        images[place] = flat.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        class_ids[place] = classes
        md5s[name] = _md5(blob).hexdigest()
    if layout is None:
        raise DataError(
            f"{source} contains no CIFAR-10 file such as cifar-10-batches-py/data_batch_1 or "
            "cifar-10-batches-bin/data_batch_1.bin; point --config.data.dir= at the right archive"
        )
    missing = [name for name in layout.files if name not in md5s]
    if missing:
        raise DataError(f"{source} lacks {', '.join(missing)}. {_advice(source.parent)}")
    provenance, official = _judge(layout, md5s, source)
    images, class_ids = images.reshape(-1, 32, 32, 3), class_ids.reshape(-1)
    return PooledImages(images, class_ids, provenance, official, 5 * images_per_file)


def _parse_python(blob: bytes, name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    batch = load_pickled_dict(blob, name)
    data, labels = batch.get("data"), batch.get("labels")
    if not isinstance(data, np.ndarray) or data.shape != (count, _PIXELS):
        found = data.shape if isinstance(data, np.ndarray) else type(data).__name__
        raise DataError(f"{name}: 'data' is {found}, expected uint8 of shape {(count, _PIXELS)}")
    if not isinstance(labels, list) or len(labels) != count:
        raise DataError(f"{name}: 'labels' is not a list of {count} integers")
    if not all(type(label) is int and 0 <= label < len(CLASS_NAMES) for label in labels):
        raise DataError(f"{name}: 'labels' has an entry that is not an integer 0..9")
    return data, np.array(labels, np.int64)


def _parse_binary(blob: bytes, name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    if len(blob) != count * (1 + _PIXELS):
        raise DataError(
            f"{name} has {len(blob)} bytes, expected {count * (1 + _PIXELS)} ({count} images of "
            f"1 + {_PIXELS} bytes): it is truncated or another file; get it again"
        )
    records = np.frombuffer(blob, np.uint8).reshape(count, 1 + _PIXELS)
    if records[:, 0].max() >= len(CLASS_NAMES):
        raise DataError(f"{name} has a label above 9: it is damaged or another file")
    return records[:, 1:], records[:, 0].astype(np.int64)


_BINARY_FILES = tuple(f"{name}.bin" for name in PYTHON_FILES_MD5)
_LAYOUTS = (
    _Layout("cifar-10-batches-py", tuple(PYTHON_FILES_MD5), _parse_python),
    _Layout("cifar-10-batches-bin", _BINARY_FILES, _parse_binary),
)


def _judge(layout: _Layout, md5s: dict[str, str], source: Path) -> tuple[str, bool | None]:
    """(provenance, official) from the MD5s of what was read."""
    if layout.parse is _parse_python:
        official = md5s == PYTHON_FILES_MD5
        return (_OFFICIAL_PYTHON if official else _NOT_OFFICIAL), official
    if source.is_file():
        with source.open("rb") as file:
            if hashlib.file_digest(file, _md5).hexdigest() == BINARY_ARCHIVE_MD5:
                return _OFFICIAL_BINARY, True
    return _UNKNOWN_BINARY, None
