"""What tables of all servers share: what is asked for, and what must fit where one is there."""

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Literal

from hybridhash_jax.retrieval.export.errors import ExportError

Kind = Literal["ivf", "exact"]
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A table.

    Attributes:
      name: letters, digits and _.
      bits: of a code.
      fingerprint: of the model that made the codes.
      columns: what goes with each code.
      kind: "ivf" for lists of similar codes, "exact" for comparing all.
      lists: how many; None for the root of the number of codes.
    """

    name: str
    bits: int
    fingerprint: str
    columns: tuple[str, ...]
    kind: Kind = "ivf"
    lists: int | None = None

    def description(self) -> str:
        """What is noted with the table."""
        return f"hybridhash export {_FORMAT}, model {self.fingerprint}"

    def check_description(self, place: str, found: str) -> None:
        """Raises ExportError where a table is somebody else's, or of another model."""
        if not found.startswith("hybridhash export "):
            raise ExportError(f"{place} was not made by hybridhash export; give another --name")
        if found != self.description():
            raise ExportError(
                f"{place} holds codes of another model or format ({found}), which these cannot be "
                "compared with; give another --name"
            )

    def check_columns(
        self,
        place: str,
        wanted: Mapping[str, str],
        found: Mapping[str, str],
        needed: Collection[str] = (),
    ) -> None:
        """Raises ExportError unless all columns are there; others may be that need no value.

        `needed` are those of which every row must have a value.
        """
        if wanted.keys() >= set(needed) and wanted.items() <= found.items():
            return
        listed = [
            ", ".join(f"{name} {kind}" for name, kind in columns.items())
            for columns in (found, wanted)
        ]
        raise ExportError(
            f"{place} exists with other columns: {listed[0]}; needed are {listed[1]}; give another "
            "--name, or --columns"
        )


def lists_for(wanted: Wanted, count: int) -> int:
    """How many lists to sort codes into; 0 for none."""
    if wanted.kind == "exact":
        return 0
    return wanted.lists or max(math.isqrt(count), 1)


def lists_fit(wanted: Wanted, there: int, asked: int) -> bool:
    """Whether lists that are there will do: building them again takes long."""
    if wanted.lists or not asked or not there:
        return there == asked
    return asked <= 2 * there and there <= 2 * asked
