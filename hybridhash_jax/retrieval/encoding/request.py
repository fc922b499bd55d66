"""What a call of `hybridhash encode` asks for."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Request:
    """What the command line asks for; see its help. What is None is as usual, or as the index has it."""

    images: str
    index: Path
    workdir: Path | None = None
    checkpoint: str | None = None
    bits: int | None = None
    like: Path | None = None
    seed: int | None = None
    root: Path | None = None
    shard: tuple[int, int] = (1, 1)
    prune: bool = False
    retry: bool = False
    max_pixels: int | None = None
    hashes: bool = True
    thumbnails: bool = True
    num_workers: int = 1
    segment: int | None = None
