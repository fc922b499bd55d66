"""Groups that someone looked at and wants to keep, in a small JSON file beside the images."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from input_pipeline.atomic_file import write_json
from input_pipeline.errors import DataError

_FORMAT = 1


class Image(NamedTuple):
    """What an image is known by: another content makes it another image.

    Attributes:
      path: relative to its folder.
      hash: its perceptual hash, 16 hexadecimal digits.
      side: the real path of the folder or index given as --against, for its images; else empty.
    """

    path: str
    hash: str
    side: str = ""


class Accepted:
    """The groups in a file, which need not be there yet."""

    def __init__(self, file: Path):
        """Reads them; DataError for a file of another kind."""
        self.file = file
        self.groups: list[list[Image]] = []
        try:
            content = json.loads(file.read_bytes())
            if content["format"] != _FORMAT:
                raise ValueError
            self.groups = [[Image(*map(str, one)) for one in group] for group in content["groups"]]
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{os.fspath(file)!r} is no list of accepted groups that this program writes; give "
                "another file as --accepted, or move it away"
            ) from error
        self._of: dict[Image, set[int]] = {}
        for number, group in enumerate(self.groups):
            self._note(number, group)

    def holds(self, first: Image, second: Image) -> bool:
        """Whether the two are in one accepted group."""
        return bool(self._of.get(first, set()) & self._of.get(second, set()))

    def add(self, groups: Iterable[Sequence[Image]]) -> None:
        """Adds groups and writes the file."""
        for group in groups:
            self.groups.append(list(group))
            self._note(len(self.groups) - 1, group)
        # Without its empty side an image is as earlier versions write and read it.
        written = [[one if one.side else one[:2] for one in group] for group in self.groups]
        write_json(self.file, {"format": _FORMAT, "groups": written})

    def _note(self, number: int, group: Iterable[Image]) -> None:
        for one in group:
            self._of.setdefault(one, set()).add(number)


def default_file(place: str) -> Path:
    """Beside the folder or the index: PICTURES.accepted.json."""
    path = Path(real_path(place))
    return path.parent / f"{path.name}.accepted.json"  # with_name would refuse /


def real_path(place: str) -> str:
    """A folder or an index as it is known by, however it was given."""
    return os.path.realpath(os.path.expanduser(place))
