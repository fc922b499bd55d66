"""The authors' checkpoints: every stage as their code computes it, and strict loading."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from hybridhash_jax import models, preprocess, pretrained

GOLDEN = Path(__file__).parent / "golden"
LAYOUTS = ("reference", "spatial")
SIZES: dict[str, Any] = {"embed_dims": (16, 32, 64), "num_heads": (2, 4, 8), "depths": (1, 1, 2)}


def tiny_model(token_layout="spatial", bits=16, seed=0, **overrides):
    options: dict[str, Any] = SIZES | {"token_layout": token_layout} | overrides
    return models.HybridHash(
        image_size=224, patch_size=4, bits=bits, rngs=nnx.Rngs(seed), **options
    )


def weights_path(layout):
    return GOLDEN / f"tiny16_{layout}.safetensors"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_stage_equals_the_authors_code(layout):
    golden = np.load(GOLDEN / f"tiny16_{layout}.npz")
    model = tiny_model(layout)
    report = pretrained.load_torch_checkpoint(model, weights_path(layout))
    assert set(report.left_out) == {"FcLayer.weight", "FcLayer.bias"}
    images = preprocess.normalize(jnp.asarray(golden["images"]))
    stages = jax.jit(lambda model, images: model.stages(images))(model, images)
    compared = [name for name in stages if name in golden.files]
    assert len(compared) == 10  # all that the authors' code gave, but for the codes themselves
    for name in compared:
        np.testing.assert_allclose(stages[name][:1], golden[name], atol=1e-5, err_msg=name)
    np.testing.assert_allclose(stages["embeddings"], golden["codes"], atol=1e-5)


def test_the_two_token_layouts_are_different_functions():
    images = preprocess.normalize(jnp.asarray(np.load(GOLDEN / "tiny16_spatial.npz")["images"]))
    outputs = []
    for layout in LAYOUTS:
        model = tiny_model(layout)
        pretrained.load_torch_checkpoint(model, weights_path("spatial"))
        outputs.append(model(images[:1]))
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-3


def test_all_problems_are_named_at_once_and_nothing_is_loaded(tmp_path):
    tensors = load_file(weights_path("spatial"))
    del tensors["norm.weight"]
    tensors["surprise.weight"] = np.zeros(3, np.float32)
    tensors["hashlayer_train.conv2.bias"] = np.zeros(8, np.float32)
    save_file(tensors, tmp_path / "odd.safetensors")
    model = tiny_model()
    before = model.patch_embed.kernel[...]
    with pytest.raises(pretrained.IncompatibleWeightsError) as error:
        pretrained.load_torch_checkpoint(model, tmp_path / "odd.safetensors")
    for part in ("norm/scale", "surprise.weight", "hashlayer_train.conv2.bias", "3 places"):
        assert part in str(error.value)
    np.testing.assert_array_equal(before, model.patch_embed.kernel[...])


@pytest.mark.parametrize(
    "options",
    [{"bits": 32}, {"depths": (1, 1, 1)}, {"depths": (1, 1, 3)}, {"interaction": "none"}],
    ids=str,
)
def test_a_checkpoint_of_another_network_is_refused(options):
    with pytest.raises(pretrained.IncompatibleWeightsError, match="nothing was loaded"):
        pretrained.load_torch_checkpoint(tiny_model(**options), weights_path("spatial"))


def test_the_plain_nest_weights_are_a_subset_of_ours():
    full = pretrained.parameter_paths(tiny_model())
    plain = pretrained.parameter_paths(tiny_model(interaction="none"))
    assert plain.keys() < full.keys()
    assert all(plain[path].shape == full[path].shape for path in plain)
