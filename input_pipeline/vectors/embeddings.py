"""The data set "embeddings": vectors that some model made of images, with labels and names."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from input_pipeline.dataset import Dataset, checksum
from input_pipeline.errors import DataError
from input_pipeline.images.encoded import EncodedImages, FileReader
from input_pipeline.images.vectors import Vectors
from input_pipeline.lists.folder_splits import FolderSplits
from input_pipeline.lists.label_lists import read_class_names
from input_pipeline.messages import counted, shortened
from input_pipeline.vectors.conversion import DEFAULT_CACHE, say
from input_pipeline.vectors.labels import RowLabels, make_labels
from input_pipeline.vectors.row_checks import check_rows
from input_pipeline.vectors.row_lists import as_words, labels_of_lines, read_rows
from input_pipeline.vectors.row_splits import drawn_splits, given_splits
from input_pipeline.vectors.vector_files import FILES, VectorFile, open_vectors

_LOOKED_AT = 100  # names, of which one at least must lead to a file


@dataclass(frozen=True)
class EmbeddingFiles:
    """Files, one row an image in the same order; None where the file of vectors has it itself."""

    embeddings: str | None = None
    labels: str | None = None
    names: str | None = None
    split_file: str | None = None


def load_embeddings(
    files: EmbeddingFiles,
    directory: str | None,
    seed: int,
    rules: FolderSplits,
    cache: str | os.PathLike[str] = DEFAULT_CACHE,
) -> Dataset:
    """Opens the files; the vectors stay where they are and are read once, to check them.

    `directory`: where names lead to image files, or None. The splits are those of the file; else
    they are drawn from `seed`: of each class where each row has one label, else of all rows.

    Raises:
      DataError: a file or a row that cannot be used.
      ValueError: no file, or rows too few for the splits.
    """
    if files.embeddings is None:
        raise ValueError(f"say where the vectors are: --config.data.embeddings=FILE; {FILES}")
    path = _local(files.embeddings)
    found = open_vectors(path, Path(cache).expanduser())
    names = _words(files.names, found.names)
    split = _words(files.split_file, found.split)
    labels_from, labels = _labels(files, found, path)
    n = len(found.array)
    _check_count(labels_from, labels.multi_hot, n, path)
    _check_count(files.names or "names", names, n, path)
    _check_count(files.split_file or "split", split, n, path)
    unlabelled = _unlabelled(labels, labels_from, names or ())
    digest = check_rows(found.array, names or (), f"{path}")
    pictures = _pictures(directory, names)
    if split is not None:
        splits = given_splits(split, files.split_file or f"{path}: split", rules)
    else:
        splits = drawn_splits(labels, f"{path}", seed, rules)
    width, dtype = found.array.shape[1], found.array.dtype
    return Dataset(
        name="embeddings",
        protocol="embeddings",
        class_names=labels.class_names,
        images=Vectors(found.array, names or (), pictures),
        labels=labels.multi_hot,
        splits=splits,
        top_k=None,
        provenance=f"{n:,} vectors of {width} {dtype} numbers in {path}{unlabelled}",
        official=None,
        checksum=checksum(
            labels.multi_hot, *splits.by_name().values(), names=(digest, *(names or ()))
        ),
    )


def _check_count(what: str, rows: Sequence[str] | np.ndarray | None, n: int, path: Path) -> None:
    if rows is not None and len(rows) != n:
        header = " (is the first line a heading? Take it away)" if len(rows) == n + 1 else ""
        raise DataError(
            f"{what}: {counted(len(rows), 'row')} for {counted(n, 'vector')} of {path}{header}; give "
            "one for each, in the same order"
        )


def _local(given: str) -> Path:
    path = Path(given).expanduser()
    if "://" in given:
        raise DataError(
            f"{given}: such files are mapped from a disk; copy it there, or mount the bucket"
        )
    if path.is_dir():
        raise DataError(f"{path} is a folder; give a file. {FILES}")
    if not path.exists():
        raise DataError(f"{path}: there is no such file. {FILES}")
    return path


def _words(beside: str | None, inside: Sequence[str] | None) -> Sequence[str] | None:
    if beside is None:
        return inside
    file = _local(beside)
    return as_words(read_rows(file), f"{file}")


def _labels(files: EmbeddingFiles, found: VectorFile, path: Path) -> tuple[str, RowLabels]:
    """(where they are from, the labels)."""
    if files.labels is not None:
        path = _local(files.labels)
        what, given = f"{path}", read_rows(path)
        given = labels_of_lines(given, what) if isinstance(given, list) else given
    elif found.labels is not None:
        what, given = f"{path}: labels", found.labels
    else:
        raise DataError(
            f"{path} has no labels, without which nothing can be learned or measured; give them in a "
            "file beside it: --config.data.labels=FILE (.npy, or text with a line a row)"
        )
    return what, make_labels(given, what, read_class_names(path.absolute().parent))


def _unlabelled(labels: RowLabels, what: str, names: Sequence[str]) -> str:
    """What to say of rows without labels; such are refused where each row is of one class."""
    rows = np.flatnonzero(~labels.multi_hot.any(axis=1)).tolist()
    if not rows:
        return ""
    few = shortened([f"row {row}, {names[row]!r}" if names else f"row {row}" for row in rows], 3)
    told = f"{len(rows):,} of {len(labels.multi_hot):,} rows have no label"
    if labels.class_ids() is not None:
        raise DataError(f"{what}: {told} ({few}); give each a class, or leave these rows out")
    say(f"{what}: {told} and are similar to nothing ({few})")
    return f"; {told}"


def _pictures(directory: str | None, names: Sequence[str] | None) -> EncodedImages | None:
    """The image files that the names lead to; DataError where none of the first is there."""
    if directory is None:
        return None
    if names is None:
        raise DataError(
            f"data.dir={directory} is where names lead to image files, and there are no names: give "
            "them with --config.data.names=FILE, or leave data.dir out"
        )
    first = names[:_LOOKED_AT]
    if "://" not in directory and not any(os.path.isfile(f"{directory}/{name}") for name in first):
        raise DataError(
            f"none of the first {counted(len(first), 'name')}, such as {first[0]!r}, leads to a file "
            f"in --config.data.dir={directory}; give the folder that the names start from, or leave "
            "data.dir out"
        )
    return EncodedImages(names, FileReader(directory, names))
