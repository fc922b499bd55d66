"""What the four sources compute once loaded: their own programs' numbers."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from hybridhash_jax import models, pretrained
from hybridhash_jax.parameters import parameter_paths
from hybridhash_jax.preprocess import pixels as preprocess
from hybridhash_jax.pretrained.account import LEFT_OUT, LOADED
from hybridhash_jax.pretrained.names import torch_names
from tests.pretrained.pretrained_files import GOLDEN, assert_same, images, randomized, small_network

LAYOUTS = ("reference", "spatial")
SIZES: dict[str, Any] = {"embed_dims": (16, 32, 64), "num_heads": (2, 4, 8), "depths": (1, 1, 2)}
NEST_FILES = {"timm_nest": "timm_nest.safetensors", "google_nest": "google_nest.flax"}


def tiny_model(token_layout="spatial", bits=16, seed=0, **overrides):
    options: dict[str, Any] = SIZES | {"token_layout": token_layout} | overrides
    options |= {"image_size": 224, "patch_size": 4}
    return randomized(
        lambda: models.create_network(outputs=bits, rngs=nnx.Rngs(0), **options), seed
    )


def weights_path(layout):
    return GOLDEN / f"tiny16_{layout}.safetensors"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_stage_equals_the_authors_code(layout):
    golden = np.load(GOLDEN / f"tiny16_{layout}.npz")
    model = tiny_model(layout)
    loaded = pretrained.load_pretrained(model, weights_path(layout))
    assert loaded.kind == "HybridHash"
    assert set(loaded.names(LEFT_OUT)) == {"FcLayer.weight", "FcLayer.bias"}
    assert set(loaded.names(LOADED)) == set(parameter_paths(model))
    batch = preprocess.normalize(jnp.asarray(golden["images"]))
    stages = jax.jit(lambda model, batch: model.stages(batch))(model, batch)
    compared = [name for name in stages if name in golden.files]
    assert len(compared) == 10  # all that the authors' code gave, but for the codes themselves
    for name in compared:
        np.testing.assert_allclose(stages[name][:1], golden[name], atol=1e-5, err_msg=name)
    np.testing.assert_allclose(stages["embeddings"], golden["codes"], atol=1e-5)


@pytest.mark.parametrize("name", NEST_FILES)
def test_a_plain_nest_gives_the_logits_of_the_program_it_comes_from(name):
    sizes = json.loads((GOLDEN / f"{name}.json").read_text())
    golden = np.load(GOLDEN / f"{name}.npz")
    taken = ("image_size", "patch_size", "embed_dims", "num_heads", "depths", "gelu")
    options: dict[str, Any] = {key: sizes[key] for key in taken}
    options["pool_padding"] = sizes["pool_padding"]
    model = randomized(
        lambda: models.create_network(
            head="classifier", outputs=sizes["classes"], rngs=nnx.Rngs(0), **options
        ),
        seed=0,
    )
    loaded = pretrained.load_pretrained(model, GOLDEN / NEST_FILES[name])
    assert set(loaded.names(LOADED)) == set(parameter_paths(model))
    assert not any("trained with" in note for note in loaded.notes)
    pixels = golden["images_div8"].repeat(8, axis=1).repeat(8, axis=2)
    batch = preprocess.normalize(jnp.asarray(pixels))
    logits = jax.jit(lambda model, batch: model(batch))(model, batch)
    np.testing.assert_allclose(logits, golden["logits"], atol=1e-5)
    assert np.abs(golden["logits"]).max() > 0.5


def test_the_two_token_layouts_are_different_functions_of_the_same_parameters():
    networks = [small_network(token_layout=layout) for layout in LAYOUTS]
    assert_same(*networks)
    join = jax.jit(lambda network, batch: network.stages(batch)["interaction1"])
    outputs = [join(network, images(network)) for network in networks]
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-3


def test_the_plain_nest_weights_are_a_subset_of_ours():
    full = parameter_paths(tiny_model())
    plain = parameter_paths(tiny_model(interaction="none"))
    assert plain.keys() < full.keys()
    assert all(plain[path].shape == full[path].shape for path in plain)


@pytest.mark.parametrize("file", ["tiny16_spatial.safetensors", "timm_nest.safetensors"])
def test_the_table_of_names_is_undone_by_its_inverse(file):
    for name, array in load_file(GOLDEN / file).items():
        if torch_names.UNUSED.fullmatch(name):
            continue
        converted = torch_names.TABLE.to_ours(name, array)
        assert converted, name
        back = torch_names.TABLE.to_theirs(*converted)
        assert back, name
        assert back[0] == name
        np.testing.assert_array_equal(back[1], array, err_msg=name)


def test_what_was_loaded_is_said_in_few_lines_and_adds_up():
    model = tiny_model(bits=32, depths=(1, 1, 1))
    loaded = pretrained.load_pretrained(model, weights_path("spatial"))
    entries = [name for name in load_file(weights_path("spatial")) if "FcLayer" not in name]
    text = loaded.describe()
    assert "levels.2.transformer_encoder.1.* (12 arrays); depth cut" in text
    assert "hash_head/to_bits/* (2 arrays); 16 bits in the file, 32 here" in text
    assert len(text.splitlines()) < 30
    assert len(loaded.names(LOADED)) == len(entries) - 12 - 2
    assert loaded.summary.endswith(
        f"{len(entries) - 14} loaded, 0 transformed, 2 newly initialised, 14 left out"
    )
