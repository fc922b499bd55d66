"""Encodes a folder on a Ray cluster: CPUs decode, actors hold the network and write an index each.

python examples/ray_encode.py PHOTOS runs/photos parts --actors=4 --gpus=1
hybridhash index merge parts/*.idx --out=photos.idx
"""

import argparse
import os
import uuid
from pathlib import Path

import numpy as np
import ray

from hybridhash_jax.retrieval.encoding.comparison import file_facts
from hybridhash_jax.retrieval.encoding.encoder import Encoder, in_batches
from hybridhash_jax.retrieval.encoding.listing import label_of, list_folder
from hybridhash_jax.retrieval.encoding.prepare import Preparation
from hybridhash_jax.retrieval.index import Entry, create_index, open_writer
from input_pipeline.errors import UnreadableImage

parser = argparse.ArgumentParser()
for name in ("folder", "run", "out"):
    parser.add_argument(name, type=os.path.realpath)
for name, usual in (("--actors", 1), ("--gpus", 0), ("--batch", 4096)):
    parser.add_argument(name, type=int, default=usual)
given = parser.parse_args()
root, out = os.fsencode(given.folder), Path(given.out)
preparation = Preparation(Encoder.transform_of(given.run), hashes=True, thumbnails=True)


def decode(row):
    path, facts = row["path"], file_facts(root, row["path"])
    try:
        one = preparation.of_file(os.path.join(root, path))
    except UnreadableImage as error:
        return print(f"unreadable: {path}: {error}") or []
    entry = Entry(path, *facts, one.width, one.height, label_of(path))
    return [{"entry": entry, "crop": one.crop, "hash": one.hash, "jpeg": one.thumbnail}]


class Encode:
    def __init__(self):
        self.encoder, self.index = Encoder.from_workdir(given.run), out / f"{uuid.uuid4().hex}.idx"
        create_index(self.index, self.encoder.model, Path(given.folder))

    def __call__(self, batch):
        parts = in_batches(batch["crop"], self.encoder.batch_size)
        parts = [self.encoder.fetch(self.encoder.start(np.stack(x)), len(x)) for x in parts]
        packed, is_nan = map(np.concatenate, zip(*parts, strict=True))
        assert not is_nan.any(), "the network gives NaN; look for a diverged run"
        with open_writer(self.index) as writer:  # a segment a batch
            writer.add(list(batch["entry"]), packed, batch["hash"], list(batch["jpeg"]))
        return {"images": [len(packed)]}


images = ray.data.from_items([{"path": path} for path in list_folder(Path(given.folder)).paths])
encode = {"batch_size": given.batch, "concurrency": given.actors, "num_gpus": given.gpus}
done = images.flat_map(decode).map_batches(Encode, num_cpus=0, **encode)
print(f"{sum(row['images'] for row in done.iter_rows()):,} images encoded into {out}")
