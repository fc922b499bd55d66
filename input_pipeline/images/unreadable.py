"""What a run does about images that cannot be read."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from input_pipeline.errors import DataError
from input_pipeline.options import Option

ON_UNREADABLE = ("error", "skip")
OPTIONS = (Option("on_unreadable", "what a broken image does", ON_UNREADABLE, may_change=True),)


@dataclass
class Unreadable:
    """What is done about images that cannot be read, and which they were."""

    names: Sequence[str] = ()  # by row; empty: images are called by number
    skip: bool = False  # replace or leave out, and remember; False raises at the first
    # By row, of those met so far. Filled by the threads that read.
    reasons: dict[int, str] = field(default_factory=dict)

    def found(self, row: int, reason: str, *, replaceable: bool) -> None:
        """Remembers an image, or raises a `DataError` that names it and what to do."""
        name = self.names[row] if len(self.names) else f"image {row}"
        if not self.skip:
            instead = "replaced by another" if replaceable else "left out of the metrics"
            raise DataError(
                f"{name}: {reason}. Mend or remove it (python -m input_pipeline.check lists all "
                f"such images), or run with --config.data.on_unreadable=skip: it is then {instead} "
                "and reported at the end"
            )
        self.reasons[row] = reason
