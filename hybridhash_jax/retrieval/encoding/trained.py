"""The encoder of a finished or running training run: its configuration and one checkpoint."""

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from hybridhash_jax import configured
from hybridhash_jax.config_fields import Config
from hybridhash_jax.distributed.mesh import make_mesh
from hybridhash_jax.features.plan import Plan, choose_plan
from hybridhash_jax.image_sources import decode_options
from hybridhash_jax.models import GIVEN, Network
from hybridhash_jax.pretrained.errors import WeightFileError
from hybridhash_jax.pretrained.workdirs import RunParameters, read_run
from hybridhash_jax.retrieval.encoding.errors import EncoderError
from hybridhash_jax.retrieval.encoding.network import Program
from hybridhash_jax.retrieval.index.records import Model
from hybridhash_jax.runtime import lock_file
from hybridhash_jax.runtime.console import quieter
from hybridhash_jax.workdir import names
from hybridhash_jax.workdir.config import has_config, load_config
from input_pipeline.datasets import SOURCES
from input_pipeline.images.transforms import ImageTransform

# Sides of the images of data sets that are arrays: files are brought to them, and resized on the
# device as the arrays are.
_SIDES = {"cifar10": 32, "digits": 8, "fashion_mnist": 28, "mnist": 28, "tiny_imagenet32": 32}
_READ_TRIES = 3  # a run that goes on may remove the checkpoint that is being read
# Of the model: what changes no code.
_NOT_OF_CODES = ("drop_path_rate", "head_dropout", "initializer", "remat", "batch_norm", "dtype")


@dataclasses.dataclass(frozen=True)
class Parts:
    """What an Encoder is made of."""

    program: Program
    transform: ImageTransform
    model: Model
    notes: tuple[str, ...] = ()  # what its user should know, a sentence each


def trained_parts(workdir: Path, checkpoint: str, dtype: str | None = None) -> Parts:
    """The network of a workdir's checkpoint: "selected", "latest" or a step.

    It computes in `dtype`; None: as the run does here.

    Nothing is read of the data set. A run that still trains may go on.

    Raises:
      EncoderError: no run of codes of images, several code lengths, or no such checkpoint.
    """
    config = _config_of(workdir)
    if dtype is not None:
        with config.unlocked():
            config.model.dtype = dtype
    run = _read(workdir, checkpoint)
    method = configured.create_method(config)
    network = _abstract_network(config)
    plan = _plan(config, method, network, workdir)
    batch_size = config.evaluation.batch_size
    program = Program(network, run.arrays, batch_size, _mesh(config), plan)
    transform, notes = _transform(config, network.image_size)
    dtype = jnp.dtype(configured.compute_dtype(config.model.dtype)).name
    facts = {
        "model": {name: x for name, x in config.model.items() if name not in _NOT_OF_CODES},
        "crop": [transform.resize, transform.size],
        "orientation": transform.options.apply_orientation,
    }
    going_on = lock_file.living_holder(workdir / names.LOCK) is not None
    name = f"checkpoint {run.step} of {workdir}"
    if going_on:
        notes.append(f"{workdir} still trains; checkpoint {run.step} is used")
    if method.learns_database_codes:
        notes.append(
            f"{method.title} learned codes of its own for its training images; here the network "
            "encodes all"
        )
    source = {"kind": "workdir", "workdir": str(workdir.absolute()), "checkpoint": run.step}
    model = Model(
        fingerprint=program.fingerprint(facts),
        bits=config.bits[0],
        name=name,
        dtype=dtype,
        backend=jax.default_backend(),
        source=source,
    )
    return Parts(program, transform, model, tuple(notes))


def transform_of(workdir: Path) -> ImageTransform:
    """How a run's images are cropped. Reads no checkpoint and opens no device; see `trained_parts`."""
    config = _config_of(workdir)
    with config.unlocked():
        config.model.dtype = "float32"  # "auto" would look at the device
    return _transform(config, _abstract_network(config).image_size)[0]


def _abstract_network(config: Config) -> Network:
    method, bits = configured.create_method(config), config.bits[0]
    return nnx.eval_shape(
        lambda: configured.network_that_encodes(config, method, bits, None, jax.random.key(0))
    )


def _config_of(workdir: Path) -> Config:
    if not workdir.is_dir():
        raise EncoderError(f"{workdir} is no folder; give the workdir of a run")
    if not has_config(workdir):
        raise EncoderError(
            f"{workdir} holds no run: there is no {names.CONFIG}; give the workdir of a run"
        )
    config = load_config(workdir)
    if config.task != "hash":
        raise EncoderError(
            f"{workdir} trains a classifier, which gives no codes; train codes from it with "
            f"--config.init.weights={workdir}, or fit some with --config.method.name=itq"
        )
    if not (workdir / names.CONFIG).is_file():
        folders = ", ".join(f"{workdir}/{bits}bits" for bits in config.bits)
        raise EncoderError(f"{workdir} holds runs of several code lengths; give one of: {folders}")
    if config.model.variant == GIVEN or "vectors" in SOURCES.get(config.data.name, ()):
        raise EncoderError(
            f"{workdir} was trained on embeddings of another model, which no image file has; give "
            "a run on images"
        )
    return config


def _read(workdir: Path, checkpoint: str) -> RunParameters:
    for tries_left in reversed(range(_READ_TRIES)):
        try:
            with _quiet_orbax():
                return read_run(workdir, checkpoint)
        except WeightFileError as error:
            if not tries_left or lock_file.living_holder(workdir / names.LOCK) is None:
                raise EncoderError(str(error)) from error
        time.sleep(0.5)
    raise AssertionError


@contextlib.contextmanager
def _quiet_orbax() -> Iterator[None]:
    """Without its warnings of files that never were."""
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)
    try:
        yield
    finally:
        absl.setLevel(level)


def _plan(config: Config, method: Any, network: Any, workdir: Path) -> Plan | None:
    """What the run keeps of each image in place of its pixels."""
    frozen = configured.configured_frozen(config, nnx.split(network)[1])
    of_files = config.data.source in ("files", "packed")
    with quieter():
        count = _num_images(workdir)
        return choose_plan(config, method, network, frozen, count=count, of_files=of_files)


def _num_images(workdir: Path) -> int:
    """About how many images the run has, which decides whether their features had room."""
    try:
        images = json.loads((workdir / names.DATA).read_text())["images"]
        return images["query"] + max(images["train"], images["database"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _mesh(config: Config) -> Mesh:
    """The devices that an evaluation here would use; one where they do not fit."""
    try:
        mesh = make_mesh(config.num_devices, **config.mesh)
    except ValueError:
        return make_mesh(1)
    return make_mesh(1) if config.evaluation.batch_size % mesh.size else mesh


def _transform(config: Config, size: int) -> tuple[ImageTransform, list[str]]:
    """How evaluation crops an image; see `_SIDES` for runs whose images were arrays."""
    options, data = decode_options(config.data), config.data
    if data.source in ("files", "packed"):
        return ImageTransform(size=size, resize=data.resize, options=options), []
    side = _SIDES.get(data.name, size)
    note = (
        f"the run is of {data.name}, whose images have {side} pixels a side: of each image the "
        "centre is taken, at that size"
    )
    return ImageTransform(size=side, resize=side, options=options), [note]
