"""Codes without labels or training: published features, and ITQ fitted to a sample of them."""

import io
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from hybridhash_jax import models
from hybridhash_jax.distributed.mesh import make_mesh
from hybridhash_jax.features.fitting import fitted_values
from hybridhash_jax.features.plan import Plan
from hybridhash_jax.methods.unsupervised import ITQ
from hybridhash_jax.parameters import by_path
from hybridhash_jax.pretrained import WeightFileError, load_pretrained
from hybridhash_jax.retrieval.encoding.errors import EncoderError
from hybridhash_jax.retrieval.encoding.network import Program
from hybridhash_jax.retrieval.encoding.trained import Parts
from hybridhash_jax.retrieval.index.records import Model
from input_pipeline.images.decode import DecodeOptions
from input_pipeline.images.transforms import ImageTransform

FILE = "encoder.npz"  # in the index
WEIGHTS = "efficientnet_lite0"
SAMPLE = 2_000  # images whose features the rotation is fitted to
# Of one shape always, see `Program`. Small, for one image that is searched with waits for all.
_BATCH = 16
_RESIZE = {"efficientnet_lite0": 256, "efficientnet_lite1": 275, "efficientnet_lite2": 297}
# What the features are centred by, and the head: what ITQ found.
_FITTED = {
    "mean": "feature_norm/mean",
    "deviation": "feature_norm/deviation",
    "kernel": "hash_head/kernel",
    "bias": "hash_head/bias",
}


def check_weights(weights: str) -> None:
    """Refuses weights that this encoder does not know, with an EncoderError."""
    if weights not in _RESIZE:
        raise EncoderError(f"weights={weights!r}; accepted: {', '.join(_RESIZE)}")


def transform_of(weights: str) -> ImageTransform:
    """The crop of the published weights, of images turned upright as cameras say."""
    size = models.VARIANTS[weights]["image_size"]
    options = DecodeOptions(apply_orientation=True)
    return ImageTransform(size=size, resize=_RESIZE[weights], options=options)


def create_program(weights: str, bits: int) -> Program:
    """The published network; its head is to be replaced by what `fit` finds.

    Codes are of float16 features, so that the network is compiled once for both.

    Raises:
      EncoderError: the weights are not installed.
    """
    network = _network(weights, bits)
    params = nnx.split(network)[1]
    stage = "features"
    plan = Plan(stage, 1, (network.backbone.width,), tuple(network.backbone.stage_paths.values()))
    return Program(network, by_path(params), _BATCH, make_mesh(1), plan)


def _network(weights: str, bits: int) -> models.Network:
    options = {"head": "hybridhash", "head_kind": "linear", "outputs": bits, "dtype": "float32"}
    # Zeros instead of random numbers, which take seconds and of which nothing is kept.
    graphdef, abstract = nnx.split(
        nnx.eval_shape(lambda: models.create_network(weights, rngs=nnx.Rngs(0), **options))
    )
    network = nnx.merge(graphdef, jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract))
    try:
        load_pretrained(network, weights)
    except WeightFileError as error:
        raise EncoderError(str(error)) from error
    return network


def check_enough(images: int, bits: int) -> None:
    """Refuses codes that cannot be fitted to so many images, with an EncoderError."""
    if images < (least := ITQ().least_rows(bits)):
        fewer = f"give --bits={_usual(images - 1)}, " if images > 1 else "give "
        raise EncoderError(
            f"codes of {bits} bits without labels are fitted to at least {least:,} images, and "
            f"here are {images:,}: {fewer}more images, or a trained network (--workdir=RUN)"
        )


def fit(
    program: Program, bits: int, crops: Iterable[np.ndarray], seed: int = 0
) -> dict[str, np.ndarray]:
    """`fit_to` features of a sample: batches uint8 [n, S, S, 3] for `create_program`'s program."""
    parts = [program.features(batch) for batch in crops]
    features = np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)
    return fit_to(features.astype(np.float32), bits, seed)


def fit_to(features: np.ndarray, bits: int, seed: int = 0) -> dict[str, np.ndarray]:
    """What ITQ finds in features, float32 [n, C]: float32 mean, deviation, kernel and bias.

    `seed` is of the rotation that it begins with.

    Raises:
      EncoderError: too few images for so many bits.
    """
    method = ITQ(seed=seed)
    check_enough(len(features), bits)
    norm = {"mean": np.zeros(1), "deviation": np.ones(1)}
    try:
        found = fitted_values(method, features, bits, {"feature_norm": norm})
    except ValueError as error:
        raise EncoderError(str(error)) from error
    return {name: found[path] for name, path in _FITTED.items()}


def _usual(most: int) -> int:
    """The largest usual code length of at most so many bits."""
    return next((bits for bits in (64, 48, 32, 16, 8) if bits <= most), most)


def parts_of(
    program: Program,
    weights: str,
    fitted: Mapping[str, np.ndarray],
    images: int,
    seed: int | None,
) -> Parts:
    """The encoder with what `fit` found in so many images; an old index does not know its seed."""
    bits = fitted["kernel"].shape[1]
    program = program.with_values({path: fitted[name] for name, path in _FITTED.items()})
    transform = transform_of(weights)
    facts = {"weights": weights, "crop": [transform.resize, transform.size], "orientation": True}
    source = {
        "kind": "label-free",
        "weights": weights,
        "file": FILE,
        "images": images,
        "seed": seed,
    }
    model = Model(
        fingerprint=program.fingerprint(facts),
        bits=bits,
        name=f"{weights} features and ITQ of {bits} bits, fitted to {images:,} images",
        dtype="float32",
        backend=jax.default_backend(),
        source=source,
    )
    return Parts(program, transform, model)


def to_bytes(fitted: Mapping[str, np.ndarray]) -> bytes:
    """A plain .npz of them."""
    file = io.BytesIO()
    arrays: dict[str, Any] = {name: fitted[name] for name in _FITTED}
    np.savez(file, **arrays)
    return file.getvalue()


def from_bytes(data: bytes) -> dict[str, np.ndarray]:
    """What `to_bytes` wrote.

    Raises:
      EncoderError: it is damaged.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            found = {name: np.asarray(file[name], np.float32) for name in _FITTED}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise EncoderError(f"{FILE} of the index is damaged ({error}); encode anew") from None
    return found
