"""How well codes without labels retrieve, beside the cosine ranking of the features they are of.

Every image of a folder of class folders is a query among all others; its class is the label. The
gap is what so few bits cost.

  python -m benchmarks.label_free IMAGES
  python -m benchmarks.label_free IMAGES --bits=32,64,128 --most=1000
"""

import argparse
import os
from pathlib import Path

import numpy as np

from hybridhash_jax.retrieval.encoding import label_free
from hybridhash_jax.retrieval.encoding.encoder import in_batches
from hybridhash_jax.retrieval.encoding.listing import label_of, list_folder
from hybridhash_jax.retrieval.encoding.prepare import Preparation
from input_pipeline.errors import UnreadableImage
from input_pipeline.progress import Progress
from input_pipeline.threads import available_cores, map_in_threads

K = 10


def features_of(root: Path, most: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Float32 [N, C] of the images that can be read, and their classes by number [N]."""
    paths = list(list_folder(root).paths)
    if most and most < len(paths):
        chosen = np.random.default_rng(0).choice(len(paths), most, replace=False)
        paths = [paths[i] for i in np.sort(chosen)]
    program = label_free.create_program(label_free.WEIGHTS, 64)
    preparation = Preparation(label_free.transform_of(label_free.WEIGHTS))

    def crop(path: bytes) -> tuple[str, np.ndarray] | None:
        try:
            found = preparation.of_file(os.path.join(os.fsencode(root), path))
        except UnreadableImage:
            return None
        return label_of(path), found.crop

    found, labels = [], []
    with Progress("computing features", len(paths)) as told:
        good = (one for one in map_in_threads(crop, paths, available_cores()) if one)
        for batch in in_batches(good, program.batch_size):
            found.append(program.features(np.stack([pixels for _, pixels in batch])))
            labels += [label for label, _ in batch]
            told.update(len(batch))
    return np.concatenate(found).astype(np.float32), np.unique(labels, return_inverse=True)[1]


def precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean share of a query's own class among the K of highest score, itself left out.

    The K are a stable ranking's: equal scores come in the order of the images.
    """
    np.fill_diagonal(scores, -np.inf)
    nearest = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    return float((labels[nearest] == labels[:, None]).mean())


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path, help="a folder with a folder a class")
    parser.add_argument("--bits", default="64", help="code lengths, with commas (default 64)")
    parser.add_argument("--most", type=int, help="a seeded sample of so many images")
    options = parser.parse_args()
    features, labels = features_of(options.images, options.most)
    print(f"{len(labels):,} images of {labels.max() + 1} classes")
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
    main()
