"""How well codes without labels retrieve, beside the cosine ranking of the features they are of.

Every image is a query among all others; one that shares a label with it counts as found. Labels
are the folders of the images, or stand in list files. The gap is what so few bits cost.

  python -m benchmarks.label_free IMAGES
  python -m benchmarks.label_free IMAGES --bits=32,64,128 --most=1000
  python -m benchmarks.label_free ROOT --lists ROOT/test.txt ROOT/database.txt
"""

import argparse
import os
from pathlib import Path

import numpy as np

from benchmarks.measure import run_and_exit
from hybridhash_jax.retrieval.encoding import label_free
from hybridhash_jax.retrieval.encoding.encoder import in_batches
from hybridhash_jax.retrieval.encoding.listing import label_of, list_folder
from hybridhash_jax.retrieval.encoding.prepare import Preparation
from input_pipeline.errors import UnreadableImage
from input_pipeline.lists.label_lists import read_list
from input_pipeline.progress import Progress
from input_pipeline.threads import available_cores, map_in_threads

K = 10


def labelled(root: Path, lists: list[Path]) -> tuple[list[bytes], np.ndarray]:
    """Paths below the root, and their labels multi-hot [N, classes]."""
    if lists:
        read = [read_list(path) for path in lists]
        paths = [os.fsencode(path) for one in read for path in one.paths]
        return paths, np.concatenate([one.labels for one in read]).astype(np.float32)
    paths = list(list_folder(root).paths)
    classes = np.unique([label_of(path) for path in paths], return_inverse=True)[1]
    return paths, np.eye(classes.max() + 1, dtype=np.float32)[classes]


def features_of(
    root: Path, paths: list[bytes], labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Float32 [N, C] of the images that can be read, and their labels."""
    program = label_free.create_program(label_free.WEIGHTS, 64)
    preparation = Preparation(label_free.transform_of(label_free.WEIGHTS))

    def crop(row: int) -> tuple[int, np.ndarray] | None:
        try:
            return row, preparation.of_file(os.path.join(os.fsencode(root), paths[row])).crop
        except UnreadableImage:
            return None

    found, rows = [], []
    with Progress("computing features", len(paths)) as told:
        good = (one for one in map_in_threads(crop, range(len(paths)), available_cores()) if one)
        for batch in in_batches(good, program.batch_size):
            found.append(program.features(np.stack([pixels for _, pixels in batch])))
            rows += [row for row, _ in batch]
            told.update(len(batch))
    return np.concatenate(found).astype(np.float32), labels[rows]


def precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean share of images with a label of the query among the K of highest score, itself left out.

    The K are a stable ranking's: equal scores come in the order of the images.
    """
    np.fill_diagonal(scores, -np.inf)
    nearest = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    return float((np.einsum("nc,nkc->nk", labels, labels[nearest]) > 0).mean())


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path, help="a folder with a folder a class")
    parser.add_argument(
        "--lists", type=Path, nargs="+", default=[], help="paths below it and labels"
    )
    parser.add_argument("--bits", default="64", help="code lengths, with commas (default 64)")
    parser.add_argument("--most", type=int, help="a seeded sample of so many images")
    options = parser.parse_args()
    paths, labels = labelled(options.images, options.lists)
    if options.most and options.most < len(paths):
        chosen = np.sort(np.random.default_rng(0).choice(len(paths), options.most, replace=False))
        paths, labels = [paths[row] for row in chosen], labels[chosen]
    features, labels = features_of(options.images, paths, labels)
    print(f"{len(labels):,} images of {labels.shape[1]} classes")
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    floats = precision(unit @ unit.T, labels)
    print(f"cosine of {features.shape[1]} floats: precision at {K} {floats:.3f}")
    for bits in map(int, options.bits.split(",")):
        values = values_of(features, bits)
        signs = np.where(values >= 0, 1, -1).astype(np.float32)
        found = precision(signs @ signs.T, labels)
        print(f"{bits} bits: precision at {K} {found:.3f}, {floats - found:.3f} less")


def values_of(features: np.ndarray, bits: int) -> np.ndarray:
    """What the codes are the signs of, fitted to a sample as `hybridhash encode` draws it."""
    count = min(len(features), label_free.SAMPLE)
    chosen = np.sort(np.random.default_rng(0).choice(len(features), count, replace=False))
    fitted = label_free.fit_to(features[chosen], bits)
    normal = (features - fitted["mean"]) / fitted["deviation"]
    return normal @ fitted["kernel"] + fitted["bias"]


if __name__ == "__main__":
    run_and_exit(main)
