"""The network of an encoder: built from its configuration alone, and compiled as an evaluation is."""

import copy
import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from hybridhash_jax import models
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.distributed.state_sharding import compile_on_batches
from hybridhash_jax.encode import EncodedBatch, compile_encode
from hybridhash_jax.features.plan import Plan, features_of
from hybridhash_jax.parameters import by_path, map_paths, with_values
from hybridhash_jax.preprocess.augmentation import prepare_images
from hybridhash_jax.retrieval.encoding.errors import EncoderError

FEW = 8  # images of a quick batch


class Program:
    """Codes of batches of one shape, by the programs that `--mode=evaluate` compiles.

    Attributes:
      batch_size: the batches' one. XLA adds up in another order for another shape. In float32 that
        moves outputs by some 1e-6, and now and then a bit; in bfloat16 it turns bits of many codes.
      params: the network's.
      plan: what is kept of an image in place of its pixels, if anything.
    """

    def __init__(
        self, network: models.Network, values: Mapping[str, Any], batch_size: int, mesh: Mesh,
        plan: Plan | None = None,
    ):  # fmt: skip
        """Compiles nothing yet.

        Args:
          network: abstract.
          values: its parameters by path; others are not used.
          batch_size: a multiple of the mesh's size.
          mesh: the devices.
          plan: what the run kept instead of images: the codes are then of float16 features.

        Raises:
          EncoderError: parameters are missing or have other shapes.
        """
        self._graphdef, abstract = nnx.split(network)
        self._size = network.image_size
        self.batch_size, self._mesh, self.plan = batch_size, mesh, plan
        self.params = _filled(abstract, values, mesh)
        self._encode = compile_encode(self._embed, mesh)
        features = functools.partial(features_of, self._graphdef, plan) if plan else None
        self._features = features and compile_on_batches(features, mesh, None)

    def _embed(self, params: Any, inputs: jax.Array) -> jax.Array:
        network: models.Network = nnx.merge(self._graphdef, params)
        if self.plan is not None:
            return network(inputs, after=self.plan.stage)
        pixels = {"mean": network.backbone.pixel_mean, "std": network.backbone.pixel_std}
        return network(prepare_images(inputs, self._size, **pixels))

    def start(self, images: np.ndarray, *, quick: bool = False) -> EncodedBatch:
        """Begins with uint8 [B, h, w, 3], B at most a batch; the result is of a whole batch.

        Where it is to be `quick`, one image is a batch of its own, and few are one of `FEW`.
        """
        size = self._quick_size(len(images)) if quick else self.batch_size
        if self._features is None:
            inputs = self._put(_padded(images, size))
        else:  # through the host, as features that were kept go
            inputs = self._put(self._whole_features(images, size))
        return self._encode(self.params, inputs)

    def _quick_size(self, count: int) -> int:
        devices = self._mesh.size  # a batch is split over them
        few = min(-(-FEW // devices) * devices, self.batch_size)
        return next((size for size in (devices, few) if count <= size), self.batch_size)

    def features(self, images: np.ndarray) -> np.ndarray:
        """Float16 of at most a batch, uint8 [B, h, w, 3]; where there is a plan."""
        return self._whole_features(images, self.batch_size)[: len(images)]

    def _whole_features(self, images: np.ndarray, size: int) -> np.ndarray:
        assert self._features is not None
        inputs = self._put(_padded(images, size))
        return np.asarray(self._features(self.params, inputs))[:, 0]

    def network(self) -> models.Network:
        """A network of its own, with these parameters in the host's memory."""
        return nnx.merge(self._graphdef, jax.device_get(self.params))

    def with_values(self, values: Mapping[str, Any]) -> "Program":
        """The same, compiled once, with some other parameters by path."""
        other = copy.copy(self)
        whole = sharding.replicated(self._mesh)
        other.params = jax.device_put(with_values(self.params, values), whole)
        return other

    def _put(self, array: np.ndarray) -> jax.Array:
        return sharding.put_batch({"image": array}, self._mesh)["image"]

    def fingerprint(self, facts: Mapping[str, Any]) -> str:
        """Hex of the parameters and of `facts`: what else codes depend on, as JSON."""
        sums = {path: _digest(np.asarray(leaf)) for path, leaf in by_path(self.params).items()}
        content = {"parameters": sums, "facts": dict(facts)}
        if self.plan is not None:
            content["kept"] = dataclasses.asdict(self.plan)
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _padded(images: np.ndarray, size: int) -> np.ndarray:
    padded = np.zeros((size, *images.shape[1:]), np.uint8)
    padded[: len(images)] = images
    return padded


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data.cast("B")).hexdigest()


def _filled(abstract: Any, values: Mapping[str, Any], mesh: Mesh) -> Any:
    """The parameters with these values, on every device."""
    wanted = {path: tuple(leaf.shape) for path, leaf in by_path(abstract).items()}
    wrong = [
        f"{path} is {np.shape(values[path]) if path in values else 'not there'}, not {shape}"
        for path, shape in wanted.items()
        if path not in values or np.shape(values[path]) != shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise EncoderError(f"parameters do not fit the network: {'; '.join(wrong[:3])}{more}")
    # Handed over together: one by one, as `with_values` does, takes half a second.
    own = map_paths(lambda path: np.asarray(values[path]), abstract)
    return jax.device_put(own, sharding.replicated(mesh))
