"""How fast batches are made: from memory, from image files, from packed records.

    python -m benchmarks.input_pipeline --out=benchmarks/results/input_pipeline.json

Every figure is the median over repetitions in which all ways of a table take turns. The first
three tables run on one core. The photographs are 500 x 375 parts of the two that scikit-learn
ships, saved with JPEG quality 92, or your own with --images.
"""

import argparse
import io
import itertools
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grain
import numpy as np
from PIL import Image

from benchmarks.measure import (
    make_parser,
    pin_to_one_core,
    print_table,
    run_and_exit,
    summary,
    take_turns,
    write_record,
)
from input_pipeline.images.decode import DecodeOptions
from input_pipeline.images.encoded import EncodedImages, FileReader
from input_pipeline.images.transforms import ImageTransform
from input_pipeline.lists.label_lists import read_list
from input_pipeline.loader import make_train_iterator
from input_pipeline.order import TrainingOrder
from input_pipeline.packed import records
from input_pipeline.packed.packing import pack_images
from input_pipeline.sources import ArraySource, DecodedSource, Source
from input_pipeline.splits import Splits

SEED = 0
IMAGES = 128  # photographs
BATCH = 32  # of photographs
PACKAGES = ("numpy", "grain", "pillow", "simplejpeg", "numba", "array_record")


def main() -> None:
    args = _parse_args()
    allowed = pin_to_one_core()
    results: dict[str, Any] = {}

    def run(title: str, ways: dict[str, Callable[[], float]], repetitions: int) -> None:
        figures = take_turns(ways, repetitions)
        print_table(title, figures)
        results[title] = summary(figures)

    run("32x32 images from memory, images/s, one core", _in_memory(), args.repetitions)
    with tempfile.TemporaryDirectory() as folder:
        files = _photographs(Path(folder), args.images)
        packed = _packed(Path(folder), files)
        run("photographs, images/s, one core", _decoding(files, packed), args.repetitions)
        run("128,503 lines of 100 labels, ms", _lists(Path(folder)), 3)
        os.sched_setaffinity(0, allowed)
        run(f"photographs, images/s, {len(allowed)} cores", _workers(files), args.repetitions)
        results["memory"] = _memory(files, args.batches)
    if args.out:
        write_record(args.out, PACKAGES, results=results, batch_size=BATCH)


def _parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, repetitions=7)
    parser.add_argument("--images", type=Path, help="a folder of .jpg files to use instead")
    parser.add_argument("--batches", type=int, default=2000, help="of the run that shows memory")
    return parser.parse_args()


def _rate(make: Callable[[], Iterator[Any]], batches: int, batch_size: int) -> float:
    iterator = make()
    next(iterator)  # set-up is not what is measured
    start = time.perf_counter()
    for _ in range(batches):
        next(iterator)
    seconds = time.perf_counter() - start
    if isinstance(iterator, grain.DatasetIterator):
        iterator.close()
    return batches * batch_size / seconds


def _train(source: Source, batch_size: int, prefetch_batches: int) -> Iterator[Any]:
    labels, rows = np.ones((len(source), 10), np.uint8), np.arange(len(source))
    return make_train_iterator(
        source,
        labels,
        rows,
        order=TrainingOrder(len(rows), batch_size, SEED),
        prefetch_batches=prefetch_batches,
    )


def _in_memory() -> dict[str, Callable[[], float]]:
    images = np.random.default_rng(SEED).integers(0, 256, (50_000, 32, 32, 3), dtype=np.uint8)
    labels, rows, source = np.ones((50_000, 10), np.uint8), np.arange(50_000), ArraySource(images)
    batch_size, many = 256, 2 * (50_000 // 256)  # crosses an epoch's end, permutation included

    order = TrainingOrder(len(rows), batch_size, SEED)

    def plain() -> Iterator[Any]:
        for step in itertools.count():
            index = order.of_step(step)
            index = index[index < len(rows)]
            yield {"image": images[index], "label": labels[index]}

    def per_element() -> Iterator[Any]:
        dataset = grain.MapDataset.range(len(rows)).seed(SEED).shuffle().repeat()
        dataset = dataset.map(lambda i: {"image": images[i], "label": labels[i]})
        options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        return iter(dataset.batch(batch_size).to_iter_dataset(options))

    return {
        "make_train_iterator": lambda: _rate(
            lambda: _train(source, batch_size, 2), many, batch_size
        ),
        "the same without threads": lambda: _rate(
            lambda: _train(source, batch_size, 0), many, batch_size
        ),
        "plain NumPy indexing": lambda: _rate(plain, many, batch_size),
        "Grain, one element an image": lambda: _rate(per_element, many // 10, batch_size),
    }


def _photographs(folder: Path, given: Path | None) -> EncodedImages:
    if given:
        names = sorted(path.name for path in given.glob("*.jpg"))[:IMAGES]
        return EncodedImages(names, FileReader(str(given), names))
    from sklearn.datasets import load_sample_images

    originals = [Image.fromarray(array) for array in load_sample_images().images]
    random, names = np.random.default_rng(SEED), [f"{i}.jpg" for i in range(IMAGES)]
    for i, name in enumerate(names):
        left, top = (int(random.integers(0, spare + 1)) for spare in (640 - 540, 427 - 405))
        box = (left, top, left + 540, top + 405)
        image = originals[i % 2].resize((500, 375), Image.Resampling.BICUBIC, box)
        image.save(folder / name, quality=92)
    sizes = [(folder / name).stat().st_size for name in names]
    print(f"{IMAGES} photographs of 500 x 375, {statistics.mean(sizes) / 1000:.0f} kB each")
    return EncodedImages(names, FileReader(str(folder), names))


def _packed(folder: Path, files: EncodedImages) -> EncodedImages:
    rows = np.arange(len(files))
    pack_images(
        files.names,
        np.ones((len(files), 2), np.uint8),
        Splits(rows[1:], rows[:1], rows[1:]),
        files.reader.read,
        folder,
        name="photographs",
        class_names=("a", "b"),
        resize=256,
        num_workers=1,
        options=DecodeOptions(),
    )
    packed = records.open_packed(str(folder / "photographs"))
    names = packed.lists[0].paths + packed.lists[1].paths
    return EncodedImages(names, packed.open_reader(), packed.resize)


def _source(images: EncodedImages, num_workers: int = 0) -> DecodedSource:
    transform = ImageTransform(224, 256, horizontal_flip=True)
    return DecodedSource(images, transform, num_workers)


def _decoding(files: EncodedImages, packed: EncodedImages) -> dict[str, Callable[[], float]]:
    transform = ImageTransform(224, 256, horizontal_flip=True)
    random = np.random.default_rng(SEED)

    def pillow() -> Iterator[Any]:
        while True:
            batch = np.empty((BATCH, 224, 224, 3), np.uint8)
            for i in range(BATCH):
                data = files.reader.read(int(random.integers(len(files))))
                image = Image.open(io.BytesIO(data)).convert("RGB")
                words = random.integers(0, 2**63, 6).astype(np.uint64) * np.uint64(2)
                crop = transform.crop(*image.size, words)
                image = image.resize((crop.width, crop.height), Image.Resampling.BILINEAR)
                if crop.flip:
                    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                box = (crop.left, crop.top, crop.left + 224, crop.top + 224)
                batch[i] = np.asarray(image.crop(box))
            yield batch

    def way(images: EncodedImages) -> Callable[[], float]:
        return lambda: _rate(lambda: _train(_source(images), BATCH, 0), 8, BATCH)

    return {
        "plain Pillow chain": lambda: _rate(pillow, 8, BATCH),
        "files": way(files),
        "packed with shorter side 256": way(packed),
    }


def _workers(files: EncodedImages) -> dict[str, Callable[[], float]]:
    def way(num_workers: int) -> Callable[[], float]:
        def run() -> float:
            source = _source(files, num_workers)
            try:
                return _rate(lambda: _train(source, BATCH, 2), 16, BATCH)
            finally:
                source.close()

        return run

    return {f"{n} worker{'s' * (n > 1)}": way(n) for n in (1, 2)}


def _lists(folder: Path) -> dict[str, Callable[[], float]]:
    path, classes = folder / "list.txt", np.random.default_rng(SEED).integers(0, 100, 128_503)
    zeros = ["0"] * 100
    with path.open("w") as file:
        for i, label in enumerate(classes):
            labels = " ".join([*zeros[:label], "1", *zeros[label + 1 :]])
            file.write(f"image/n{label:08d}_{i}.JPEG {labels}\n")

    def parse() -> float:
        start = time.perf_counter()
        assert read_list(path).labels.shape == (128_503, 100)
        return 1000 * (time.perf_counter() - start)

    return {"read_list": parse}


def _memory(files: EncodedImages, batches: int) -> dict[str, float]:
    """Peak memory of this process, in MiB, after a tenth of the batches and after all."""
    source = _source(files, 2)
    iterator = _train(source, 16, 2)
    peaks = {}
    for done in range(1, batches + 1):
        next(iterator)
        if done in (batches // 10, batches):
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            peaks[f"peak_mib_after_{done}_batches"] = round(peak, 1)
    source.close()
    print("memory:", peaks)
    return peaks


if __name__ == "__main__":
    run_and_exit(main)
