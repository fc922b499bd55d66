"""index.json: what an index is, and which of its files count."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybridhash_jax.retrieval.index.errors import IndexFileError, explained
from hybridhash_jax.retrieval.index.records import Model
from hybridhash_jax.retrieval.index.words import words_of
from hybridhash_jax.retrieval.names import shown

NAME = "index.json"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Header:
    """What index.json says.

    Attributes:
      model: that made the codes.
      root: the folder that the paths are relative to; None if there is no such folder.
      generation: that of the catalogue when it was new; what changes in it adds to this.
      files: SHA-256 of each file in `files/`.
    """

    model: Model
    root: Path | None
    generation: int
    files: Mapping[str, str]

    @property
    def catalogue(self) -> str:
        """The name of the SQLite file that counts."""
        return f"catalogue-{self.generation}.sqlite"

    def to_json(self) -> bytes:
        """The bytes of the file; ValueError where the model's source is no JSON."""
        content = {
            "format": FORMAT,
            "bits": self.model.bits,
            "words": words_of(self.model.bits),
            "model": {**dataclasses.asdict(self.model), "source": dict(self.model.source)},
            "root": None if self.root is None else os.fspath(self.root),
            "generation": self.generation,
            "files": dict(self.files),
        }
        try:
            return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
        except TypeError as error:
            raise IndexFileError(f"the model's source cannot be kept as JSON: {error}") from None


def read_header(path: Path) -> Header:
    """Reads index.json of the index in the folder `path`.

    Raises:
      IndexFileError: there is none, it is damaged, or of a newer format.
    """
    try:
        with explained(path, "read"):
            text = (path / NAME).read_bytes()
    except IndexFileError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise IndexFileError(_missing(path)) from None
        raise
    try:
        content = json.loads(text)
        number = int(content["format"])
    except (ValueError, KeyError, TypeError):
        raise _damaged(path) from None
    if number > FORMAT:
        raise IndexFileError(
            f"{shown(path)} has format {number}; this release reads formats up to {FORMAT}. "
            "Update hybridhash_jax, or encode the images into a new index."
        )
    return _parsed(path, content)


def digest(data: bytes | memoryview) -> str:
    """SHA-256, in hex."""
    return hashlib.sha256(data).hexdigest()


def is_plain(name: object) -> bool:
    """Is it the name of a file, and no path that leads elsewhere?"""
    return isinstance(name, str) and name not in ("", ".", "..") and not {"/", "\0"} & set(name)


def _parsed(path: Path, content: dict[str, Any]) -> Header:
    try:
        root = content["root"]
        header = Header(
            model=Model(**content["model"]),
            root=None if root is None else Path(root),
            generation=content["generation"],
            files={str(name): str(value) for name, value in content["files"].items()},
        )
        given = (content["bits"], content["words"])
        if given != (header.model.bits, words_of(header.model.bits)):
            raise ValueError
        # They become paths that are written to, and an index may come from somebody else.
        if not (isinstance(header.generation, int) and all(map(is_plain, header.files))):
            raise ValueError
        return header
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(path) from None


def _missing(path: Path) -> str:
    if path.is_dir():
        what, name = f"is a folder without {NAME}", "NEW"
    elif os.path.lexists(path):
        what, name = "is a file, and an index is a folder", "NEW"
    else:
        what, name = "does not exist", shown(path)
    return (
        f"{shown(path)} is no index: it {what}. `hybridhash encode FOLDER --index={name}` makes one"
    )


def _damaged(path: Path) -> IndexFileError:
    return IndexFileError(
        f"{shown(path / NAME)} is damaged; restore a copy, or encode the images into a new index"
    )
