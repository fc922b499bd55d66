"""An encoder that needs no network."""

from types import SimpleNamespace

import numpy as np

from hybridhash_jax.retrieval.index import Model
from input_pipeline.images.transforms import ImageTransform


class FakeEncoder:
    """The code is the mean of red, green and blue of the crop; one that is all 13 gives NaN."""

    def __init__(self, fingerprint: str = "abcd"):
        source = {"kind": "label-free", "weights": "none", "file": "encoder.npz", "images": 5}
        source |= {"seed": 7}
        self.model = Model(fingerprint, 24, "means", "float32", "cpu", source)
        self.transform = ImageTransform(size=8, resize=8)
        self.batch_size, self.notes = 4, ()
        self.files = {"encoder.npz": b"means"}
        self.images = 0

    def start(self, crops: np.ndarray):
        assert 1 <= len(crops) <= self.batch_size
        self.images += len(crops)
        means = crops.mean(axis=(1, 2)).round().astype(np.uint8)
        return SimpleNamespace(packed=means, is_nan=(crops == 13).all(axis=(1, 2, 3)))

    def fetch(self, batch, count: int):
        return batch.packed[:count], batch.is_nan[:count]

    def check(self, model: Model, where: str) -> None:
        assert model.fingerprint == self.model.fingerprint
