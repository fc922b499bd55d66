"""The images of an index that could not be read: a file in it, which later runs go by."""

import dataclasses
from pathlib import Path

from hybridhash_jax.retrieval.index import storage
from hybridhash_jax.retrieval.names import exact, shown
from input_pipeline.atomic_file import write_atomically

FILE = storage.UNREADABLE


@dataclasses.dataclass(frozen=True)
class Refused:
    """Why an image is not in the index, and the file's size and time then; None where unknown."""

    reason: str
    size: int | None = None
    modified_ns: int | None = None

    def is_of(self, size: int, modified_ns: int) -> bool:
        """Is the file still what it was?"""
        return (self.size, self.modified_ns) == (size, modified_ns)


def read_unreadable(index: Path) -> dict[bytes, Refused]:
    """What `write_unreadable` wrote; a line that says nothing is left out."""
    try:
        lines = (index / FILE).read_text("utf-8", "surrogateescape").split("\n")
    except OSError:
        return {}
    found: dict[bytes, Refused] = {}
    for line in lines:
        name, _, rest = line.partition("\t")
        reason, *numbers = rest.split("\t")
        if name and reason:
            known = len(numbers) == 2 and all(number.isdecimal() for number in numbers)
            size, modified = map(int, numbers) if known else (None, None)
            found[exact(name)] = Refused(reason, size, modified)
    return found


def write_unreadable(index: Path, refused: dict[bytes, Refused]) -> None:
    """A line each: name, reason, size and time in nanoseconds, with tabs between; none removes it."""
    if not refused:
        (index / FILE).unlink(missing_ok=True)
        return
    lines: list[str] = []
    for path, one in sorted(refused.items()):
        reason = " ".join(one.reason.split())
        numbers = [] if one.size is None else [str(one.size), str(one.modified_ns)]
        lines.append("\t".join([shown(path), reason, *numbers]) + "\n")
    write_atomically(index / FILE, "".join(lines).encode("utf-8", "surrogateescape"))
