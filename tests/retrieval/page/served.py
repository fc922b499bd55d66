"""Small indexes, served as `hybridhash serve` does, but in a thread and without a network."""

import contextlib
import dataclasses
import functools
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hybridhash_jax.retrieval.encoding.prepare import thumbnail
from hybridhash_jax.retrieval.index import Entry, create_index, open_writer
from input_pipeline.near_duplicates.hashing import perceptual_hash
from tests.report import report_cases
from tests.retrieval.search.pictured import Colour, FakeEncoder
from tests.retrieval.service.served import png

LONG = b"a_word_that_does_not_end_" * 8 + b".jpg"
ODD = b"sea/a,\n\xff.jpg"
UPLOAD_BYTES = 100_000  # little, so that the tests can give too much
TIED = 40  # images of the wood, all with one code
SEA: Colour = (0, 0, 255)
WOOD: Colour = (0, 255, 0)
# By the encoder of the tests a picture's code is its colour.
BLUE, GREEN = png(SEA, (40, 30)), png(WOOD, (40, 30))


@dataclasses.dataclass(frozen=True)
class Made:
    """Images to serve: their paths, labels and codes."""

    paths: Sequence[bytes]
    labels: Sequence[str]
    codes: Sequence[Colour]


def photographs() -> Made:
    """Ever farther from the blue of the sea: one bit for the 5th, 10th, ... of them."""
    sea = [b"sea/%02d.jpg" % n for n in range(20)] + [ODD]
    wood = [b"wood/2024/%02d.jpg" % n for n in range(TIED)]
    blues = [(0, 0, 255 & (255 << n // 5)) for n in range(20)] + [(128, 0, 255)]
    labels = ["sea"] * len(sea) + ["wood"] * len(wood) + [""]
    return Made([*sea, *wood, LONG], labels, [*blues, *[WOOD] * TIED, (255, 255, 255)])


def make_index(folder: Path, made: Made, *, bare: bool = False) -> Path:
    """An index of these images and, unless bare, thumbnails, hashes and the files themselves."""
    encoder, root = FakeEncoder(), folder / "images"
    path = folder / "i"
    create_index(path, encoder.model, None if bare else root, encoder.files)
    pictures = [_pictures()[n % len(_pictures())] for n in range(len(made.paths))]
    entries = []
    for name, label, (pixels, jpeg, _) in zip(made.paths, made.labels, pictures, strict=True):
        if not bare:
            file = root / os.fsdecode(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(jpeg)
        height, width, _ = pixels.shape
        entries.append(Entry(name, len(jpeg), 1_700_000_000_000_000_000, width, height, label))
    codes = np.array(made.codes, np.uint8).reshape(-1, 3)
    with open_writer(path) as writer:
        if bare:
            writer.add(entries, codes)
        elif entries:
            hashes = np.array([one[2] for one in pictures])
            writer.add(entries, codes, hashes, [one[1] for one in pictures])
    return path


@functools.cache
def _pictures() -> list[tuple[np.ndarray, bytes, np.uint64]]:
    found = list(report_cases.photographs(25).values())
    return [(pixels, thumbnail(pixels), perceptual_hash(pixels)) for pixels in found]


@contextlib.contextmanager
def served(
    index: Path, *, originals: bool = False, upload_bytes: int = 10_000_000
) -> Iterator[str]:
    """Where the page of an index is, while the block runs."""
    import uvicorn

    from hybridhash_jax.retrieval.service.app import create_app
    from hybridhash_jax.retrieval.service.settings import Settings

    settings = Settings(index, originals=originals, upload_bytes=upload_bytes)
    app = create_app(settings, lambda index: FakeEncoder())  # type: ignore[arg-type]
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", loop="asyncio"))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
