"""What runs on accelerators lowers for them, at the published size, without one at hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from configs import cifar10
from hybridhash_jax.evaluators.codes import CodeEvaluator
from hybridhash_jax.experiment import Experiment, create_experiment
from input_pipeline.dataset import Dataset
from input_pipeline.splits import Splits

PLATFORMS = ("cpu", "cuda", "tpu")
IMAGES, BANK, CLASSES, BITS, BATCH = 5_100, 5_000, 10, 64, 64


def published_recipe(fsdp: int = 1, remat: str = "none", parts: int = 1) -> Experiment:
    """configs/cifar10.py in bfloat16 over the suite's 8 devices, on images that are all black."""
    config = cifar10.get_config()
    config.model.dtype = "bfloat16"
    config.mesh.fsdp, config.model.remat, config.accumulation_steps = fsdp, remat, parts
    dataset = Dataset(
        name="cifar10",
        protocol="cifar10-1",
        class_names=tuple("0123456789"),
        images=np.zeros((IMAGES, 32, 32, 3), np.uint8),
        labels=np.eye(CLASSES, dtype=np.uint8)[np.arange(IMAGES) % CLASSES],
        splits=Splits(np.arange(BANK), np.arange(BANK, IMAGES), np.arange(BANK)),
        top_k=None,
        provenance="made here",
        official=None,
        checksum="0",
    )
    return create_experiment(config.lock(), dataset, BITS)


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return published_recipe()


@pytest.fixture(scope="module")
def state(experiment) -> Any:
    """Shapes only: 55 million parameters, twice more for the optimizer, are never allocated."""
    return jax.eval_shape(experiment.create_state)


def shape(dtype: Any, *sizes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


def exported_step(experiment: Experiment, state: Any) -> export.Exported:
    batch = {
        "image": shape(jnp.uint8, BATCH, 32, 32, 3),
        "label": shape(jnp.uint8, BATCH, CLASSES),
        "index": shape(jnp.int32, BATCH),
        "mask": shape(jnp.bool, BATCH),
    }
    key = jax.eval_shape(lambda: jax.random.key(0))
    step: Any = experiment.train_step
    return export.export(step, platforms=PLATFORMS)(state, batch, key)


@pytest.mark.slow
def test_the_training_step_lowers_for_every_platform_over_eight_devices(experiment, state):
    exported = exported_step(experiment, state)
    assert exported.platforms == PLATFORMS
    assert exported.nr_devices == 8
    assert sum(x.size for x in jax.tree.leaves(state.params)) > 50e6
    assert state.method.embeddings.shape == (BANK, BITS)
    returned = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    assert jax.tree.map(lambda x: x.shape, returned[0]) == jax.tree.map(lambda x: x.shape, state)
    assert "bf16" in exported.mlir_module()


@pytest.mark.thorough
def test_a_step_of_split_parameters_in_little_memory_lowers_as_well():
    experiment = published_recipe(fsdp=8, remat="layers", parts=2)
    exported = exported_step(experiment, jax.eval_shape(experiment.create_state))
    assert exported.platforms == PLATFORMS
    assert exported.nr_devices == 8
    assert '512x512xf32> {sdy.sharding = #sdy.sharding<@mesh, [{"fsdp"}, {}]>' in (
        exported.mlir_module()
    )


def test_the_encoder_lowers_for_every_platform_over_eight_devices(experiment, state):
    images = shape(jnp.uint8, BATCH, 32, 32, 3)
    encode: Any = CodeEvaluator(experiment).encode
    exported = export.export(encode, platforms=PLATFORMS)(state.params, images)
    assert exported.platforms == PLATFORMS
    assert exported.nr_devices == 8
    packed, is_nan = exported.out_avals
    assert (packed.shape, packed.dtype) == ((BATCH, BITS // 8), np.uint8)
    assert (is_nan.shape, is_nan.dtype) == ((BATCH,), np.bool_)
