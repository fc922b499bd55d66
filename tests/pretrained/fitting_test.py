"""Weights of another depth, image size, head or code length: each is done, and said."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from hybridhash_jax import pretrained
from hybridhash_jax.configured import MethodParameters
from hybridhash_jax.parameters import parameter_paths
from hybridhash_jax.pretrained import positions
from hybridhash_jax.pretrained.account import ACTIONS, LEFT_OUT, LOADED, NEW, TRANSFORMED, group
from hybridhash_jax.pretrained.fitting import fit
from hybridhash_jax.pretrained.network import describe_network
from hybridhash_jax.pretrained.writing import encode
from tests.pretrained.pretrained_files import (
    assert_same,
    parameters,
    small_classifier,
    small_network,
    source_of,
)


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory):
    """hash.safetensors (8 bits, authors' names) and nest.safetensors (5 classes, timm's)."""
    folder = tmp_path_factory.mktemp("weights")
    for name, model in (("hash", small_network(seed=1)), ("nest", small_classifier(seed=2))):
        out = folder / f"{name}.safetensors"
        out.write_bytes(encode(source_of(model), out).data)
    return folder


def changed(folder, name, **tensors):
    """A copy of a file with tensors replaced, added, or (None) taken away; __ stands for a dot."""
    content = load_file(folder / f"{name}.safetensors")
    for key, value in tensors.items():
        key = key.replace("__", ".")
        if value is None:
            del content[key]
        else:
            content[key] = value
    path = folder / "changed.safetensors"
    save_file(content, path)
    return path


def refused(model, path, **options):
    """The message; the model must not have changed."""
    before = parameters(model)
    with pytest.raises(pretrained.IncompatibleWeightsError, match="nothing was loaded") as error:
        pretrained.load_pretrained(model, path, **options)
    after = parameters(model)
    assert all((after[path] == before[path]).all() for path in before)
    return str(error.value)


def test_the_same_network_is_loaded_whole(folder):
    model = small_network(seed=5)
    loaded = pretrained.load_pretrained(model, folder / "hash.safetensors")
    assert_same(model, small_network(seed=1))
    assert set(loaded.names(LOADED)) == set(parameters(model))
    assert not loaded.names(NEW) and not loaded.names(TRANSFORMED)


@pytest.mark.parametrize("name", ["hash", "nest"])
@pytest.mark.parametrize("options", [{}, {"depths": (1, 2)}, {"image_size": 32}], ids=str)
def test_every_entry_and_every_parameter_is_in_exactly_one_row(folder, name, options):
    model = small_network(bits=4, **options)
    path = folder / f"{name}.safetensors"
    loaded = pretrained.load_pretrained(model, path)
    assert sorted(row.name for row in loaded.rows if row.action != LEFT_OUT) == sorted(
        parameters(model)
    )
    used = len(loaded.names(LOADED)) + len(loaded.names(TRANSFORMED))
    redrawn = 2 if name == "hash" else 0  # the last layer of the hash head, of other bits
    assert used + len(loaded.names(LEFT_OUT)) + redrawn == len(load_file(path))
    shown = sum(int(n) for n in re.findall(r"\((\d+) arrays?\)", loaded.describe()))
    assert shown == len(loaded.rows)
    assert all(row.action in ACTIONS for row in loaded.rows)


def test_the_first_layers_of_the_last_level_are_kept(folder):
    model, original = small_network(depths=(1, 2)), parameters(small_network(seed=1))
    loaded = pretrained.load_pretrained(model, folder / "hash.safetensors")
    for path, array in parameters(model).items():
        np.testing.assert_array_equal(array, original[path], err_msg=path)
    cut = [name for name in loaded.names(LEFT_OUT) if "FcLayer" not in name]
    assert len(cut) == 12 and all(".1.transformer_encoder.2." in name for name in cut)


def test_layers_that_another_level_has_too_many_or_the_last_too_few_are_refused(folder):
    message = refused(small_network(depths=(1, 4)), folder / "hash.safetensors")
    assert "levels/1/layers/3/* (12 arrays); not in the file" in message
    deeper = load_file(folder / "hash.safetensors")
    first = "levels.0.transformer_encoder."
    layers = {
        name.replace(first + "0", f"{first}{j}"): array
        for name, array in deeper.items()
        for j in (1, 2, 3)
        if first in name
    }
    save_file(deeper | layers, folder / "deeper.safetensors")
    message = refused(small_network(), folder / "deeper.safetensors")
    assert "levels.0.transformer_encoder.{1..3}.* (36 arrays); not in this network" in message
    assert "depths=(4, 3)" in message and "depths=(1, 3)" in message


def test_other_bits_draw_only_the_last_layer_anew(folder):
    model, drawn = small_network(bits=12), parameters(small_network(bits=12))
    loaded = pretrained.load_pretrained(model, folder / "hash.safetensors")
    assert set(loaded.names(NEW)) == {"hash_head/to_bits/kernel", "hash_head/to_bits/bias"}
    original = parameters(small_network(seed=1))
    for path, array in parameters(model).items():
        expected = drawn if path.startswith("hash_head/to_bits") else original
        np.testing.assert_array_equal(array, expected[path], err_msg=path)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("layer_norm_tanh", "batch_norm"),
        ("batch_norm", "layer_norm_tanh"),
        ("linear", "batch_norm"),
    ],
)
def test_of_a_hash_head_of_another_kind_nothing_is_taken(theirs, ours):
    """Also not what has the same name and shape in both."""
    file = fit(source_of(small_network(head=theirs)), describe_network(small_network(head=ours)))
    rows = [row for row in file.rows if row.name.startswith("hash_head/")]
    assert {row.action for row in rows} == {LEFT_OUT, NEW}
    assert not any(path.startswith("hash_head/") for path in file.arrays)
    assert any(path.startswith("levels/") for path in file.arrays)


def test_a_plain_nest_fills_all_but_what_hybridhash_adds(folder):
    model, drawn = small_network(), parameters(small_network())
    loaded = pretrained.load_pretrained(model, folder / "nest.safetensors")
    original = parameters(small_classifier(seed=2))
    for path, array in parameters(model).items():
        added = "global_branch" in path or path.startswith("hash_head/")
        assert (path in loaded.names(NEW)) == added
        np.testing.assert_array_equal(array, (drawn if added else original)[path], err_msg=path)
    assert set(loaded.names(LEFT_OUT)) == {"head.weight", "head.bias"}
    assert any('pool_padding="same"; this network has "symmetric"' in n for n in loaded.notes)


def test_a_classifier_of_other_classes_draws_its_head_anew(folder):
    model = small_classifier(classes=9)
    loaded = pretrained.load_pretrained(model, folder / "nest.safetensors")
    assert set(loaded.names(NEW)) == {"head/kernel", "head/bias"}
    assert "5 classes in the file, 9 here" in loaded.describe()


def test_a_classifier_takes_no_half_of_a_hybridhash(folder):
    message = refused(small_classifier(), folder / "hash.safetensors")
    assert "levels.1.pool.global_attention.* (4 arrays); not in this network" in message


def test_position_embeddings_are_resized_as_one_map_over_all_blocks(folder):
    model = small_network(image_size=32)
    loaded = pretrained.load_pretrained(model, folder / "hash.safetensors")
    level = [f"levels/{i}/position_embedding" for i in (0, 1)]
    assert list(loaded.names(TRANSFORMED)) == sorted(level)
    blocks = parameters(small_network(seed=1))["levels/0/position_embedding"]  # 2x2 of 4x4
    grid = blocks.reshape(2, 2, 4, 4, 8).transpose(0, 2, 1, 3, 4).reshape(8, 8, 8)
    found = parameters(model)["levels/0/position_embedding"]  # 2x2 of 8x8
    found = found.reshape(2, 2, 8, 8, 8).transpose(0, 2, 1, 3, 4).reshape(16, 16, 8)
    # Twice as fine: a new point lies a quarter of an old step beside an old one. Keys' kernel with
    # a = -3/4 at distances 1.25, 0.25, 0.75 and 1.75, by hand.
    near = {-2: -0.03515625, -1: 0.26171875, 0: 0.87890625, 1: -0.10546875}
    for row, column in ((6, 7), (9, 4), (0, 15)):
        expected = np.zeros(8)
        for dy, wy in near.items():
            for dx, wx in near.items():
                y = row // 2 + (dy if row % 2 == 0 else -dy)
                x = column // 2 + (dx if column % 2 == 0 else -dx)
                expected += wy * wx * grid[np.clip(y, 0, 7), np.clip(x, 0, 7)]
        np.testing.assert_allclose(found[row, column], expected, atol=1e-5)


@pytest.mark.parametrize(("old", "new"), [(14, 12), (14, 16), (7, 24), (24, 7), (1, 3), (5, 5)])
def test_bicubic_weights_sum_to_one_and_keep_a_grid_of_the_same_size(old, new):
    weights = positions.bicubic_weights(old, new)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-12)
    if old == new:
        np.testing.assert_array_equal(weights, np.eye(old))


def test_embeddings_of_finer_block_tokens_are_resized_in_the_spatial_layout_only(folder):
    path = folder / "hash.safetensors"
    loaded = pretrained.load_pretrained(small_network(token_pooling="half_block"), path)
    resized = [name for name in loaded.names(TRANSFORMED) if "token_attention" in name]
    assert len(resized) == 2
    model = small_network(token_pooling="half_block", token_layout="reference")
    message = refused(model, path)
    assert "token_attention/position_embedding" in message and "2 places" in message


def test_all_problems_are_named_at_once(folder):
    path = changed(
        folder,
        "hash",
        norm__weight=None,
        surprise__weight=np.zeros(3, np.float32),
        hashlayer_train__convS1__bias=np.zeros(7, np.float32),
        norm__bias=np.full(16, np.nan, np.float32),
        patch_embed__proj__bias=np.zeros(8, np.int64),
    )
    message = refused(small_network(), path)
    assert "5 places" in message
    for line in (
        "norm/scale (1 array); not in the file: (16,) here",
        "surprise.weight (1 array); nothing this program knows: (3,) in the file",
        "hash_head/conv_1x3/bias (1 array); of another shape: (7,) in the file, (16,) here",
        "norm/bias (1 array); holds infinities or NaN in the file",
        "patch_embed/bias (1 array); int64 in the file is no weight",
    ):
        assert line in message


def test_a_named_exception_lets_exactly_that_pass_and_lists_it(folder):
    path = changed(folder, "hash", norm__weight=None, surprise__weight=np.zeros(3, np.float32))
    model, drawn = small_network(), parameters(small_network())
    assert "in 1 place;" in refused(model, path, allow_missing=["^surprise"])
    loaded = pretrained.load_pretrained(model, path, allow_missing=["^surprise", "norm/scale$"])
    assert loaded.names(NEW) == ("norm/scale",)
    assert "surprise.weight" in loaded.names(LEFT_OUT)
    assert loaded.describe().count("allowed by init.allow_missing") == 2
    np.testing.assert_array_equal(parameters(model)["norm/scale"], drawn["norm/scale"])
    original = parameters(small_network(seed=1))
    np.testing.assert_array_equal(parameters(model)["norm/bias"], original["norm/bias"])


@pytest.mark.parametrize(("pattern", "message"), [("nrom", "matches no"), ("(", "no regular")])
def test_a_misspelled_exception_is_refused(folder, pattern, message):
    with pytest.raises(ValueError, match=f"init.allow_missing: .*{message}"):
        pretrained.load_pretrained(
            small_network(), folder / "hash.safetensors", allow_missing=[pattern]
        )


@pytest.mark.parametrize(
    "part", ["hashlayer_train", "conv_glo", "global_attention", "transformer_encoder.1"]
)
def test_a_part_that_this_kind_of_file_should_have_is_missed(folder, part):
    """What plain NesT lacks is drawn anew, but not half of what a HybridHash file should have."""
    content = load_file(folder / "hash.safetensors")
    kept = {n: a for n, a in content.items() if part not in n or n == "hashlayer_train.conv2.bias"}
    save_file(kept, folder / "part.safetensors")
    assert "not in the file" in refused(small_network(), folder / "part.safetensors")


def test_a_hybridhash_file_without_its_whole_hash_head_is_refused(folder):
    content = load_file(folder / "hash.safetensors")
    kept = {n: a for n, a in content.items() if "hashlayer" not in n}
    save_file(kept, folder / "headless.safetensors")
    message = refused(small_network(), folder / "headless.safetensors")
    assert "hash_head/* (10 arrays); not in the file" in message


@pytest.mark.parametrize(
    "options", [{"embed_dims": (16, 32)}, {"patch_size": 4}, {"interaction": "none"}], ids=str
)
def test_another_network_is_refused_with_what_the_file_looks_like(folder, options):
    message = refused(small_network(**options), folder / "hash.safetensors")
    assert "The file looks like no named variant (embed_dims=(8, 16), depths=(1, 3)" in message
    assert "interaction=full, bits=8)" in message


def test_names_are_grouped_without_hiding_any():
    layers = [f"levels/2/layers/{j}/{leaf}" for j in (0, 1, 2, 5) for leaf in ("a/x", "a/y", "b")]
    assert list(group(layers, layers)) == ["levels/2/layers/{0..2,5}/*"]
    some = [name for name in layers if name != "levels/2/layers/1/b"]
    grouped = group(some, layers)
    assert list(grouped) == ["levels/2/layers/{0,2,5}/*", "levels/2/layers/1/a/*"]
    assert sorted(name for names in grouped.values() for name in names) == sorted(some)
    assert list(group(["norm/scale"], ["norm/scale", "norm/bias"])) == ["norm/scale"]
    assert list(group(["norm/scale", "norm/bias"], [])) == ["norm/*"]


def test_parameters_are_float32_and_on_their_devices_after_loading(folder):
    model = small_network()
    pretrained.load_pretrained(model, folder / "hash.safetensors")
    for value in parameter_paths(model).values():
        assert isinstance(value[...], jnp.ndarray) and value.dtype == jnp.float32
    assert isinstance(nnx.state(model)["backbone"]["norm"]["scale"], nnx.Param)


def with_method(model, classes=5, bits=8):
    """The network with what a method trains beside it."""
    model.method = MethodParameters({"proxies": jnp.zeros((classes, bits))})
    return model


def test_what_a_method_trains_is_not_missed_in_a_file(folder):
    loaded = pretrained.load_pretrained(
        with_method(small_network(seed=5)), folder / "hash.safetensors"
    )
    assert {row.name: row.action for row in loaded.rows}["method/proxies"] == NEW
