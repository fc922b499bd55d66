"""Kills `hybridhash encode` at random moments; run by kill_test.py.

    python -m tests.retrieval.encoding.killed FOLDER

A process of its own without threads, so that it can fork. Prints "done" when the index equals one
that nobody disturbed, and no kill cost more than a segment and what was on its way.
"""

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np
from PIL import Image

from hybridhash_jax.retrieval.encoding import folder as encoding
from hybridhash_jax.retrieval.encoding import making
from hybridhash_jax.retrieval.encoding.request import Request
from hybridhash_jax.retrieval.index import compact, open_index, verify
from tests.retrieval.encoding.fakes import FakeEncoder

IMAGES, CHANGED, ROUNDS, KILLS_A_ROUND, SEGMENT = 240, 160, 5, 4, 8
# What a kill may cost: an open segment, which may be half a one more, and the batches on their way.
LOST = SEGMENT + SEGMENT // 2 + 3 * FakeEncoder().batch_size


class CountingEncoder(FakeEncoder):
    """Takes a while for a batch, as a network does, and notes what it encodes."""

    def __init__(self, record: Path):
        super().__init__()
        self.record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def start(self, crops: np.ndarray):
        time.sleep(0.002)
        os.write(self.record, b"." * len(crops))
        return super().start(crops)


def change(root: Path, number: int) -> None:
    """The images as they are in a round: in the first all are new, later some have changed."""
    random_ = random.Random(number)
    rows = range(IMAGES) if number == 0 else random_.sample(range(IMAGES), CHANGED)
    for row in rows:
        path = root / f"{row % 3}" / f"{row:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = (row, 10 * number + 1, random_.randrange(200))
        Image.new("RGB", (9 + number, 8), colour).save(path)
        os.utime(path, ns=(number, number))


def encode(root: Path, index: Path, record: Path) -> None:
    encoder = CountingEncoder(record)
    making.new_encoder = making.encoder_for = lambda *_: encoder  # pyright: ignore
    encoding.encode(Request(str(root), index, num_workers=2, segment=SEGMENT), lambda text: None)


def child(*arguments: Path) -> int:
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        encode(*arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def finish(*arguments: Path) -> float:
    """Encodes without a kill; returns the seconds it took."""
    start = time.perf_counter()
    assert os.waitpid(child(*arguments), 0)[1] == 0
    return time.perf_counter() - start


def contents(index: Path) -> dict[str, bytes]:
    """All that a compacted index holds, but caches."""
    compact(index)
    assert not verify(index)
    with open_index(index) as opened:
        paths, rows = opened.paths()
        assert len(paths) == IMAGES
        entries = repr(opened.entries(rows)).encode()
    segments = sorted((index / "segments").iterdir())
    return {path.name: path.read_bytes() for path in segments} | {"entries": entries}


def main(folder: Path) -> None:
    root, draw = folder / "images", random.Random(0)
    calm, stormy = folder / "calm.idx", folder / "stormy.idx"
    hit = 0
    for number in range(ROUNDS):
        change(root, number)
        seconds = finish(root, calm, folder / "calm")
        for kill in range(KILLS_A_ROUND):
            process = child(root, stormy, folder / "stormy")
            # Each has less to do than the one before it.
            time.sleep(draw.uniform(0, seconds * (1 - kill / KILLS_A_ROUND)))
            os.kill(process, signal.SIGKILL)
            hit += os.waitpid(process, 0)[1] != 0  # else it had just finished
        finish(root, stormy, folder / "stormy")
    needed, encoded = ((folder / name).stat().st_size for name in ("calm", "stormy"))
    assert needed == IMAGES + (ROUNDS - 1) * CHANGED
    assert encoded <= needed + hit * LOST, (needed, encoded, hit)
    assert contents(stormy) == contents(calm)
    print(f"done: {hit} kills, {needed} images to encode, {encoded} encoded")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
