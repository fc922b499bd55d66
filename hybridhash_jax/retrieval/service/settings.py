"""What a service is told when it starts."""

import dataclasses
from pathlib import Path

MOST = 1000  # images of one answer, pages before it included


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is served, to whom, and within which limits.

    Attributes:
      index: its folder.
      workdir: where the run is that encoded the index, if it has moved.
      originals: whether whole image files are given out.
      token: what clients must show; None for none.
      hosts: names under which requests are accepted; empty for any.
      origins: other origins whose pages may ask.
      upload_bytes: the largest image file.
      pixels: the largest image, undecoded.
      uploads_bytes: what all uploads together may hold in memory.
      seconds: how long a request may take.
      waiting: how much work of a kind may wait; the rest is sent away.
    """

    index: Path
    workdir: Path | None = None
    originals: bool = False
    token: str | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    upload_bytes: int = 10_000_000
    pixels: int = 40_000_000
    uploads_bytes: int = 64_000_000
    seconds: float = 10.0
    waiting: int = 32
