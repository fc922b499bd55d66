"""Small networks, and weight files of every kind made from them."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from hybridhash_jax import models
from hybridhash_jax.parameters import parameter_paths
from hybridhash_jax.pretrained.network import describe_network
from hybridhash_jax.pretrained.sources import Source
from hybridhash_jax.workdir.checkpoints import CheckpointStore

GOLDEN = Path(__file__).parents[1] / "golden"
# Two levels of widths 8 and 16 on a 8x8 grid: blocks of 4x4 tokens.
SMALL: dict[str, Any] = {
    "image_size": 16,
    "patch_size": 2,
    "embed_dims": (8, 16),
    "num_heads": (2, 4),
    "depths": (1, 3),
}


def small_network(bits: int = 8, seed: int = 0, **overrides: Any) -> models.Network:
    """A HybridHash with every parameter random, also those that start at 0 or 1."""
    options = SMALL | overrides | {"outputs": bits}
    return _randomized(_abstract(tuple(options.items())), seed)


def small_classifier(classes: int = 5, seed: int = 0, **overrides: Any) -> models.Network:
    """A plain NesT of the same sizes."""
    options = SMALL | overrides | {"head": "classifier", "outputs": classes}
    return _randomized(_abstract(tuple(options.items())), seed)


def randomized(build: Callable[[], Any], seed: int) -> Any:
    """The network without its own initialisation, which would have to be compiled."""
    return _randomized(nnx.split(nnx.eval_shape(build)), seed)


@functools.cache
def _abstract(options: tuple) -> Any:
    return nnx.split(
        nnx.eval_shape(lambda: models.create_network(rngs=nnx.Rngs(0), **dict(options)))
    )


def _randomized(abstract: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    graphdef, state = abstract
    drawn = [
        (path, value.replace(jnp.asarray(rng.normal(size=value.shape), jnp.float32)))
        for path, value in nnx.to_flat_state(state)
    ]
    return nnx.merge(graphdef, nnx.from_flat_state(drawn))


def source_of(model: Any) -> Source:
    """What reading a run of this network gives."""
    network, arrays = describe_network(model), parameters(model)
    return Source(
        path="run",
        kind="own run",
        arrays=arrays,
        names={path: path for path in arrays},
        unknown={},
        unused={},
        heads=network.heads,
        heads_fastest=False,
        options=network.options,
        notes=[],
    )


def parameters(model: Any) -> dict[str, np.ndarray]:
    """Copies of all parameters by path."""
    return {path: np.array(value[...]) for path, value in parameter_paths(model).items()}


def assert_same(found: Any, expected: Any) -> None:
    """Every parameter of both networks is equal to the last bit."""
    theirs, ours = parameters(found), parameters(expected)
    assert theirs.keys() == ours.keys()
    for path, array in ours.items():
        np.testing.assert_array_equal(theirs[path], array, err_msg=path)


def images(model: Any, count: int = 2) -> jax.Array:
    shape = (count, model.image_size, model.image_size, 3)
    return jax.random.normal(jax.random.key(1), shape)


def write_run(workdir: Path, steps: dict[int, Any], **config: Any) -> Path:
    """A workdir as training leaves it: step -> network."""
    workdir.mkdir(parents=True, exist_ok=True)
    model = {"variant": "tiny_32px", "token_heads": 8, "gelu": "exact"} | SMALL | config
    text = json.dumps({"model": model, "evaluation": {"selected_by": "query"}})
    (workdir / "config.json").write_text(text)
    store = CheckpointStore(workdir / "checkpoints", keep_latest=9)
    history = []
    for step, network in steps.items():
        # The first evaluation is the best.
        history.append({"step": step, "map_expected": 1 / (1 + len(history))})
        state = {
            "step": jnp.asarray(step),
            "params": nnx.split(network)[1],
            "opt_state": {"momentum": jnp.ones((3, 4))},
            "bank": {"embeddings": jnp.zeros((7, 8)), "seen": jnp.zeros(7, bool)},
        }
        store.save(step, state, {"history": history})
    store.wait()
    store.close()
    return workdir
