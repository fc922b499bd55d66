"""Files of codes: the codes of a set of images with their labels.

A file is an ordinary `.npz` that `numpy.load` opens:

    codes        uint8 [N, ceil(K / 8)], eight bits a byte, the first in the highest (numpy.packbits),
                 with `bits` beside it; or, without `bits`, [N, K] of -1/+1 or of 0/1 in any dtype
    bits         K
    labels       0/1 [N, classes]; or class ids, integers [N]
    names        optional, strings [N]: what each image is called
    rows         optional, integers [N]: which row of the data set each image is
    class_names  optional, strings [classes]: one a column of labels, or one for every id from 0 on
    fingerprint  optional, a string: which model made the codes; only codes of the same model can be
                 compared
    protocol, top_k  optional: the data set's protocol, and its cut-off of mAP

A pair of `.npy` files with `codes`, not packed, and `labels` as above is a set as well.
"""

import io
import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer, Shaped, UInt8

from hybridhash_jax.codes.binary import Codes, Packed, pack, unpack
from input_pipeline.atomic_file import write_atomically
from input_pipeline.errors import DataError
from input_pipeline.vectors.array_files import ArrayFileError, read_array, read_arrays

SIDES = ("query", "database")
_ACCEPTED = (
    "accepted: a folder with query.npz and database.npz; QUERY.npz,DATABASE.npz; or four .npy files, "
    "QUERY_CODES.npy,QUERY_LABELS.npy,DATABASE_CODES.npy,DATABASE_LABELS.npy"
)
_LAYOUT = (
    "codes", "labels", "bits", "names", "rows", "class_names", "fingerprint", "protocol", "top_k",
)  # fmt: skip
_DESCRIBED = 'docs/metrics.md describes the layout under "Files of codes"'


class CodeFileError(ValueError):
    """A file of codes cannot be used; says which, why, and what is accepted."""


@dataclass(frozen=True, eq=False)
class CodeSet:
    """Codes of N images; the fields are those of a file, and None where they are not known."""

    packed: Packed
    bits: int
    labels: UInt8[np.ndarray, "N classes"] | Integer[np.ndarray, "N"]
    names: Shaped[np.ndarray, "N"] | None = None
    rows: Integer[np.ndarray, "N"] | None = None
    class_names: tuple[str, ...] = ()
    fingerprint: str | None = None
    protocol: str | None = None
    top_k: int | None = None

    def __len__(self) -> int:
        return len(self.packed)

    @property
    def codes(self) -> Codes:
        """The codes, -1 and +1."""
        return unpack(self.packed, self.bits)

    @property
    def num_classes(self) -> int:
        """How many classes have an image here; there may be columns of labels without any."""
        labels = self.labels
        return len(np.unique(labels)) if labels.ndim == 1 else int(labels.any(axis=0).sum())

    def name(self, index: int) -> str:
        """Returns what image `index` is called."""
        return f"number {index}" if self.names is None else str(self.names[index])

    def labels_of(self, index: int) -> list[str]:
        """Returns the names of the labels of image `index`, or their numbers."""
        label = self.labels[index]
        found = [int(label)] if self.labels.ndim == 1 else np.flatnonzero(label).tolist()
        return [self.class_name(number) for number in found]

    def class_name(self, number: int) -> str:
        """Returns the name of a class, or its number where it has none."""
        named = 0 <= number < len(self.class_names)
        return self.class_names[number] if named else str(number)


def save_codes(path: Path, codes: CodeSet) -> None:
    """Writes one set, whole or not at all; a DataError if it cannot be written."""
    optional: dict[str, Any] = {
        "names": None if codes.names is None else np.asarray(codes.names, np.str_),
        "rows": codes.rows,
        "class_names": np.asarray(codes.class_names, np.str_) if codes.class_names else None,
        "fingerprint": codes.fingerprint,
        "protocol": codes.protocol,
        "top_k": codes.top_k,
    }
    data = io.BytesIO()
    known = {name: value for name, value in optional.items() if value is not None}
    np.savez_compressed(data, codes=codes.packed, bits=codes.bits, labels=codes.labels, **known)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write {path} ({error})") from error
    write_atomically(path, data.getvalue())


def load_code_sets(paths: str) -> tuple[CodeSet, CodeSet]:
    """Reads queries and database from what `--codes` names: a folder, or files with commas.

    The name of a folder may have commas, too.

    A CodeFileError for files that are not there, not of the layout, or do not belong together.
    """
    files = [Path(part).expanduser() for part in paths.split(",")]
    folder = Path(paths).expanduser()
    if os.path.isdir(folder):  # Path.is_dir raises where names with commas are too long for one
        files = [folder / f"{side}.npz" for side in SIDES]
    missing = [str(file) for file in files if not file.exists()]
    if missing:
        inside = folder / "codes"
        hint = f"give --codes={inside}; " if os.path.isdir(inside) else ""
        raise CodeFileError(
            f"--codes={paths}: there is no {' and no '.join(missing)}; {hint}{_ACCEPTED}"
        )
    kinds = [file.suffix for file in files]
    if kinds == [".npz"] * 2:
        query, database = (load_codes(file) for file in files)
    elif kinds == [".npy"] * 4:
        query, database = _load_pair(*files[:2]), _load_pair(*files[2:])
    else:
        raise CodeFileError(f"--codes={paths}; {_ACCEPTED}")
    _check_belong_together(query, database)
    return query, database


def load_codes(path: Path) -> CodeSet:
    """Reads one `.npz`; a CodeFileError if it is missing, damaged, or not of the layout."""
    try:
        content = read_arrays(path, _LAYOUT)
    except ArrayFileError as error:
        raise CodeFileError(f"{error}; {_DESCRIBED}") from None
    missing = [name for name in ("codes", "labels") if name not in content]
    if missing:
        raise CodeFileError(
            f"{path} has no {' and no '.join(missing)}; it has {', '.join(content)}; {_DESCRIBED}"
        )
    try:
        return _code_set(content)
    except ValueError as error:
        raise CodeFileError(f"{path}: {error}; {_DESCRIBED}") from None


def _code_set(content: Mapping[str, np.ndarray]) -> CodeSet:
    codes, bits = _codes(content["codes"], _whole(content, "bits"))
    class_names = content.get("class_names", np.empty(0, np.str_))
    if class_names.ndim != 1:
        raise ValueError(f"class_names have shape {class_names.shape}; give one a class")
    labels = _labels(content["labels"], len(codes), len(class_names) == 1)
    _check_class_names(len(class_names), labels)
    for name in ("names", "rows"):
        if name in content and content[name].shape != codes.shape[:1]:
            shape = content[name].shape
            raise ValueError(f"{name} have shape {shape} for {len(codes)} codes; give one a code")
    rows = content.get("rows")
    if rows is not None and not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(f"rows are {rows.dtype}; they must be integers")
    names = content.get("names")
    return CodeSet(
        codes,
        bits,
        labels,
        names=None
        if names is None
        else np.array([_text(name) for name in names.tolist()], np.str_),
        rows=rows,
        # An accent may be a letter's own or a mark behind it; these are the same name.
        class_names=tuple(unicodedata.normalize("NFC", _text(x)) for x in class_names.tolist()),
        fingerprint=_words(content, "fingerprint"),
        protocol=_words(content, "protocol"),
        top_k=_whole(content, "top_k"),
    )


def _codes(codes: np.ndarray, bits: int | None) -> tuple[Packed, int]:
    if bits is None:
        is_packed = codes.dtype == np.uint8 and codes.ndim == 2 and (codes > 1).any()
        if is_packed:
            width = 8 * codes.shape[1]
            raise ValueError(
                f"codes are uint8 {codes.shape} with values above 1, so they look packed: add "
                f"bits=K, the code length, {width - 7} to {width} here, to the .npz; or unpack them "
                "with numpy.unpackbits"
            )
        packed = pack(codes)
        return packed, codes.shape[1]
    unpack(codes[:1] if codes.ndim else codes, bits)  # checks shape and dtype
    return codes, bits


def _whole(content: Mapping[str, np.ndarray], name: str) -> int | None:
    value = content.get(name)
    if value is None:
        return None
    if value.size != 1 or value.dtype.kind not in "iuf" or value.item() % 1 or value.item() < 1:
        shown = repr(value.item()) if value.size == 1 else f"an array of shape {value.shape}"
        raise ValueError(f"{name} must be a whole number of 1 or more; it is {shown}")
    return int(value.item())


def _words(content: Mapping[str, np.ndarray], name: str) -> str | None:
    value = content.get(name)
    if value is None:
        return None
    if value.size != 1:
        raise ValueError(f"{name} must be one string; it has shape {value.shape}")
    return _text(value.item())


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _labels(labels: np.ndarray, count: int, has_one_class: bool) -> np.ndarray:
    if labels.ndim not in (1, 2) or len(labels) != count:
        raise ValueError(
            f"labels have shape {labels.shape} for {count} codes; they must be 0/1 [N, classes], "
            "or class ids [N], a row a code"
        )
    if labels.ndim == 1:
        if not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"labels are {labels.dtype} [N]; class ids must be integers")
        return labels
    if not ((labels == 0) | (labels == 1)).all():
        raise ValueError("labels [N, classes] must be 0 or 1; class ids have one axis, [N]")
    if labels.shape[1] == 1 and not has_one_class and not labels.all():
        raise ValueError(
            f"labels have a single column of 0 and 1 {labels.shape}: the items with 0 would have no "
            "label at all; give class ids [N], or a column a class"
        )
    if labels.shape[1] == 0:
        raise ValueError(f"labels have no column {labels.shape}; give one a class")
    return labels.astype(np.uint8)


def _check_class_names(count: int, labels: np.ndarray) -> None:
    if not count:
        return
    if labels.ndim == 2 and count != labels.shape[1]:
        raise ValueError(
            f"class_names has {count} names for the {labels.shape[1]} columns of labels; give one a "
            "column, or leave class_names out"
        )
    if labels.ndim == 1 and count <= (most := int(labels.max(initial=0))):
        raise ValueError(
            f"class_names has {count} names, but class ids go up to {most}; give {most + 1} names or "
            "more, or leave class_names out"
        )


def _load_pair(codes: Path, labels: Path) -> CodeSet:
    try:
        content = {"codes": read_array(codes), "labels": read_array(labels)}
    except ArrayFileError as error:
        raise CodeFileError(f"{error}; {_ACCEPTED}") from None
    try:
        return _code_set(content)
    except ValueError as error:
        raise CodeFileError(f"{codes} and {labels}: {error}; {_DESCRIBED}") from None


def _check_belong_together(query: CodeSet, database: CodeSet) -> None:
    if query.fingerprint != database.fingerprint:
        raise CodeFileError(
            f"the query codes were made by model {query.fingerprint or 'unknown'} and the database "
            f"codes by {database.fingerprint or 'unknown'}: distances between them mean nothing. "
            "Encode both with the same model."
        )
    if query.bits != database.bits:
        raise CodeFileError(
            f"the query codes have {query.bits} bits and the database codes {database.bits}; "
            "encode both with the same model"
        )
    if query.labels.shape[1:] != database.labels.shape[1:]:
        raise CodeFileError(
            f"query labels {query.labels.shape} and database labels {database.labels.shape} do not "
            "match: give both as class ids [N], or both as 0/1 [N, classes] over the same classes"
        )
    if not len(query) or not len(database):
        raise CodeFileError(
            f"there are {len(query)} query codes and {len(database)} database codes; each side "
            "needs at least one"
        )
    if query.class_names != database.class_names:
        raise CodeFileError("query and database name their classes differently")
