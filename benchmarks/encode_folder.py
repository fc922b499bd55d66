"""How fast `hybridhash encode` is, beside the network alone and decoding alone, in one run.

Two rooms of files: tiny ones, where the network is the limit, and photographs through a network
that costs nothing, where decoding is. And the memory and the time of a catalogue of many files.

  python -m benchmarks.encode_folder --photos=PHOTOGRAPHS
  python -m benchmarks.encode_folder --photos=PHOTOGRAPHS --files=100000
"""

import argparse
import concurrent.futures
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import simplejpeg

from benchmarks.measure import run_and_exit
from hybridhash_jax.retrieval.encoding import folder, label_free, making
from hybridhash_jax.retrieval.encoding.encoder import Encoder
from hybridhash_jax.retrieval.encoding.listing import list_folder
from hybridhash_jax.retrieval.encoding.prepare import Preparation
from hybridhash_jax.retrieval.encoding.request import Request
from hybridhash_jax.retrieval.index import Model
from input_pipeline.images.transforms import ImageTransform
from input_pipeline.threads import available_cores


class FreeEncoder:
    """Takes the place of a network that costs nothing; codes are of 64 bits of the crop."""

    def __init__(self, transform: ImageTransform):
        self.transform, self.batch_size, self.notes = transform, 64, ()
        self.files: dict[str, bytes] = {}
        source = {"kind": "label-free", "weights": "none", "file": "none", "images": 0}
        self.model = Model("free", 64, "no network", "uint8", "cpu", source)

    def start(self, crops: np.ndarray, *, quick: bool = False):
        return SimpleNamespace(packed=crops[:, 0].reshape(len(crops), -1)[:, :8].copy())

    def fetch(self, batch, count: int):
        return batch.packed[:count], np.zeros(count, bool)

    def check(self, model: Model, where: str) -> None:
        del model, where


def tiny_files(root: Path, count: int, side: int = 32) -> None:
    """JPEG files of noise, 1,000 a folder."""
    random = np.random.default_rng(0)
    pictures = [
        simplejpeg.encode_jpeg(random.integers(0, 256, (side, side, 3), np.uint8), quality=70)
        for _ in range(16)
    ]
    for number in range(count):
        place = root / f"{number // 1000:04}"
        if number % 1000 == 0:
            place.mkdir(parents=True)
        (place / f"{number:07}.jpg").write_bytes(pictures[number % 16])


def network_bound(work: Path, count: int, workers: int) -> None:
    """Images a second of the job, and of the compiled network on the same crops in memory."""
    tiny_files(work / "tiny", count, side=224)
    files = list_folder(work / "tiny").paths
    paths = [os.path.join(os.fsencode(work / "tiny"), path) for path in files]
    encoder = Encoder.unsupervised(paths[:96], bits=64)
    preparation = Preparation(encoder.transform)
    crops = np.stack([preparation.of_file(path).crop for path in paths])
    size = encoder.batch_size

    def bare() -> None:
        before = None
        for start in range(0, len(crops), size):
            now = encoder.start(crops[start : start + size])
            if before is not None:
                encoder.fetch(before, size)
            before = now
        if before is not None:
            encoder.fetch(before, size)

    bare_rates, rates = [], []
    for turn in range(3):  # side by side, for the machine may be shared
        bare_rates.append(count / seconds(bare))
        rates.append(count / encode(work / "tiny", work / f"tiny{turn}.idx", encoder, workers))
    told("network is the limit", rates, bare_rates, "of the bare encoder")


def decoding_bound(work: Path, photos: Path, workers: int) -> None:
    """Images a second of the job, and of threads that only decode, crop and hash."""
    transform = label_free.transform_of(label_free.WEIGHTS)
    encoder = FreeEncoder(transform)
    paths = [os.path.join(os.fsencode(photos), path) for path in list_folder(photos).paths]
    whole, crop_only = Preparation(transform, True, True), Preparation(transform)

    def bare(preparation: Preparation) -> float:
        def of(path: bytes) -> None:
            preparation.of_file(path)

        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            return len(paths) / seconds(lambda: [None for _ in pool.map(of, paths)])

    bare(crop_only)
    decoded, all_of_it, rates = [], [], []
    for turn in range(3):
        decoded.append(bare(crop_only))
        all_of_it.append(bare(whole))
        rates.append(len(paths) / encode(photos, work / f"photos{turn}.idx", encoder, workers))
    told("decoding is the limit", rates, all_of_it, "of bare decoding, hash and thumbnail")
    told("  the same", rates, decoded, "of bare decoding and cropping")
    quick = [
        len(paths)
        / encode(photos, work / f"quick{n}.idx", encoder, workers, hashes=False, thumbnails=False)
        for n in range(2)
    ]
    told("  without hash and thumbnail", quick, decoded, "of bare decoding and cropping")


def encode(root: Path, index: Path, encoder, workers: int, **options) -> float:
    """Seconds of `hybridhash encode` with this encoder."""
    making.new_encoder = lambda *_: encoder
    making.encoder_for = lambda *_: encoder
    request = Request(str(root), index, num_workers=workers, **options)
    return seconds(lambda: folder.encode(request))


def many_files(work: Path, count: int, workers: int) -> None:
    """Memory of encoding many tiny files, and the time of a second run that has nothing to do."""
    tiny_files(work / "many", count)
    index = work / "many.idx"
    encoder = FreeEncoder(ImageTransform(size=32, resize=32))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = encode(work / "many", index, encoder, workers)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{count:,} tiny files: {count / took:,.0f} images/s; at most {(after - before) / 1024:.0f} "
        f"MiB more than before ({after / 1024:.0f} MiB in all)"
    )
    command = [sys.executable, "-m", "hybridhash_jax", "encode", str(work / "many")]
    again = seconds(lambda: subprocess.run([*command, f"--index={index}"], check=True))
    print(f"{count:,} finished files, again: {again:.1f} s")


def seconds(work) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def told(what: str, rates: list[float], bare: list[float], of: str) -> None:
    """Prints medians and the ratio of the best, which a busy machine disturbs least."""
    print(
        f"{what}: {np.median(rates):,.1f} images/s beside {np.median(bare):,.1f}; "
        f"ratio of the best {max(rates) / max(bare):.3f} {of}",
        flush=True,
    )


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, help="a folder of photographs")
    parser.add_argument("--images", type=int, default=320, help="through the network (default 320)")
    parser.add_argument("--files", type=int, default=0, help="tiny files of the catalogue")
    parser.add_argument("--num_workers", type=int, default=available_cores())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        if options.files:  # first: memory is counted from here
            many_files(Path(work), options.files, options.num_workers)
        if options.photos:
            decoding_bound(Path(work), options.photos, options.num_workers)
        if options.images:
            network_bound(Path(work), options.images, options.num_workers)


if __name__ == "__main__":
    run_and_exit(main)
