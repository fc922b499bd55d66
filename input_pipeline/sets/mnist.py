"""Reads MNIST and Fashion-MNIST: 70,000 grey images of 28x28 pixels in four IDX files.

MNIST: LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition"
(1998). Fashion-MNIST: Xiao, Rasul and Vollgraf (2017), https://arxiv.org/abs/1708.07747.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.messages import shortened
from input_pipeline.sets.digits import DIGIT_NAMES
from input_pipeline.sets.download import fetch
from input_pipeline.sets.idx import read_idx
from input_pipeline.sets.pooled import PooledImages

# Images and labels of the training images, then those of the test images.
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
COUNTS = (60_000, 10_000)
_SIDE = 28
_CLOTHES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"


@dataclass(frozen=True)
class MnistLike:
    """A set in MNIST's four files: where they are, and the MD5s of `FILES`."""

    title: str
    class_names: tuple[str, ...]
    url: str  # of the folder that has them, gzipped
    gzipped_md5: tuple[str, ...]
    unpacked_md5: tuple[str, ...]
    torchvision: str  # where torchvision puts them in its folder
    debian: str | None = None  # the package that has them, in /usr/share/datasets


SETS = {
    "mnist": MnistLike(
        title="MNIST",
        class_names=DIGIT_NAMES,
        url="https://ossci-datasets.s3.amazonaws.com/mnist/",
        gzipped_md5=(
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        unpacked_md5=(
            "6bbc9ace898e44ae57da46a324031adb",
            "a25bea736e30d166cdddb491f175f624",
            "2646ac647ad5339dbf082846283269ea",
            "27ae3e4e09519cfbb04c329615203637",
        ),
        torchvision="MNIST/raw",
    ),
    "fashion_mnist": MnistLike(
        title="Fashion-MNIST",
        class_names=tuple(_CLOTHES.split(",")),
        url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        gzipped_md5=(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        unpacked_md5=(
            "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "9018921c3c673c538a1fc5bad174d6f9",
            "8181f5470baa50b63fa0f6fddb340f0a",
            "15d484375f8d13e6eb1aabb0c3f46965",
        ),
        torchvision="FashionMNIST/raw",
        debian="dataset-fashion-mnist",
    ),
}


def read_mnist(
    name: str,
    directory: str | None,
    *,
    download: bool = True,
    counts: tuple[int, int] = COUNTS,
) -> PooledImages:
    """Reads the four files of a set of `SETS` from a folder, downloading those that are missing.

    Grey images uint8 [N, 28, 28, 1]. `directory` holds the files, gzipped or not, or is a folder
    that torchvision downloads into; None: ~/.cache/hybridhash_jax/NAME, or where Debian's package
    has put them. `counts`: how many training and test images there must be.
    """
    one = SETS[name]
    folder = _folder(name, directory)
    for file, md5 in zip(FILES, one.gzipped_md5, strict=True):
        if _path(folder, file) is None:
            _fetch(one, folder, file, md5, download)
    arrays, md5s = [], []
    for i, file in enumerate(FILES):
        shape = (counts[i // 2], _SIDE, _SIDE) if i % 2 == 0 else (counts[i // 2],)
        path = _path(folder, file) or folder / file
        array, md5 = read_idx(path, shape)
        if i % 2 and array.max() >= len(one.class_names):
            raise DataError(
                f"{path} has a label of {array.max()}; those of {one.title} are 0 to 9: give its files"
            )
        arrays.append(array)
        md5s.append(md5)
    official = tuple(md5s) == one.unpacked_md5
    for key, other in SETS.items():
        if key != name and tuple(md5s) == other.unpacked_md5:
            raise DataError(f"{folder} holds {other.title}: give --config.data.name={key}")
    return PooledImages(
        images=np.concatenate(arrays[::2])[..., None],
        class_ids=np.concatenate(arrays[1::2]).astype(np.int64),
        provenance=f"the official {one.title} files (the MD5 of all four matches)"
        if official
        else f"not the official files (MD5 differs): results are not comparable with published "
        f"{one.title} numbers",
        official=official,
        num_train=counts[0],
    )


def _folder(name: str, directory: str | None) -> Path:
    """The folder that has most of the files; where they are to be downloaded if none has any."""
    one, usual = SETS[name], f"~/.cache/hybridhash_jax/{name}"
    root = Path(directory or usual).expanduser().absolute()
    if root.is_file():
        raise DataError(
            f"{root} is a file; give the folder that holds the four files of {one.title}, or will, with "
            "--config.data.dir=FOLDER"
        )
    folders = [root, root / "raw", root / one.torchvision]
    if directory is None and one.debian:
        installed = Path("/usr/share/datasets") / one.debian.removeprefix("dataset-")
        if _count(installed) == len(FILES):
            folders.append(installed)
    folder = max(folders, key=_count)
    inside = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    if directory and inside and not _count(folder):
        raise DataError(
            f"no {one.title} files in {root}, which holds {shortened(inside)}: give an empty folder "
            f"to download into, or another one. {_advice(one, root)}"
        )
    return folder


def _count(folder: Path) -> int:
    return sum(_path(folder, file) is not None for file in FILES)


def _path(folder: Path, file: str) -> Path | None:
    """The file in the folder, gzipped or not; some copies have a dot in place of a dash."""
    names = (file, f"{file}.gz", file.replace("-idx", ".idx"), f"{file.replace('-idx', '.idx')}.gz")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _fetch(one: MnistLike, folder: Path, file: str, md5: str, download: bool) -> None:
    advice = _advice(one, folder)
    for name in (file, f"{file}.gz"):
        if os.path.lexists(folder / name):
            raise DataError(f"{folder / name} is no file; take it away. {advice}")
    if not download:
        missing = ", ".join(f"{file}.gz" for file in FILES if _path(folder, file) is None)
        raise DataError(f"{folder} lacks {missing}, and downloading is off. {advice}")
    try:
        fetch(f"{one.url}{file}.gz", folder / f"{file}.gz", md5)
    except DataError as error:
        raise DataError(f"{error}. {advice}") from error


def _advice(one: MnistLike, folder: Path) -> str:
    package = f", install Debian's package {one.debian}" if one.debian else ""
    return (
        f"Put {', '.join(f'{file}.gz' for file in FILES)} from {one.url} into {folder} (gzipped or "
        f"not){package}, or say where they are with --config.data.dir=FOLDER"
    )
