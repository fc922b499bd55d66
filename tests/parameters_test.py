"""Parameters have one spelling, which old checkpoints and patterns rely on."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hybridhash_jax import models
from hybridhash_jax.methods.memory_bank import create_bank
from hybridhash_jax.optimizer import make_optimizer
from hybridhash_jax.parameters import (
    check_patterns,
    flatten,
    joined,
    map_paths,
    matches,
    parameter_paths,
    parts_by_flag,
    with_values,
    without_flagged,
)
from hybridhash_jax.state import first_state

SIZES = {"image_size": 8, "patch_size": 2, "embed_dims": (8, 16), "num_heads": (2, 4)}
# Written by the version that had no backbones.
NAMES = json.loads((Path(__file__).parent / "array_names.json").read_text())
# First numbers of some of its weights from seed 0.
HASHING = {
    "hash_head/conv_1x3/kernel": [0.1837402, 0.1559529],
    "hash_head/to_bits/kernel": [-0.1681929, 0.1434095],
    "levels/0/position_embedding": [-0.03014033, -0.01660854],
    "levels/1/layers/0/mlp/fc2/kernel": [-0.01355885, 0.109757],
    "patch_embed/kernel": [0.3042358, 0.05028026],
}
CLASSIFYING = {
    "head/kernel": [-0.1357658, 0.2304016],
    "levels/0/position_embedding": [0.003318731, 0.022064],
    "levels/1/layers/0/mlp/fc2/kernel": [0.05949848, 0.0002751655],
    "patch_embed/kernel": [0.1815821, -0.330546],
}


def network(head: str) -> models.Network:
    outputs = {"hybridhash": 4, "classifier": 3}.get(head, 5)
    return models.create_network(
        head=head, outputs=outputs, depths=(1, 1), rngs=nnx.Rngs(0), **SIZES
    )


def params(head: str):
    return nnx.split(nnx.eval_shape(lambda: network(head)))[1]


def test_arrays_of_a_hashing_run_are_called_as_in_old_checkpoints():
    start = params("hybridhash")
    optimizer = make_optimizer(start, name="adamw", learning_rate=1e-3, frozen=("^patch_embed/",))
    state = jax.eval_shape(lambda p: first_state(p, optimizer, create_bank(7, 4, 3)), start)
    expected = [re.sub("^bank/", "method/", name) for name in NAMES["hybridhash"]]
    assert sorted(flatten(state)) == sorted(expected)


def test_arrays_of_a_classifier_s_run_are_called_as_in_old_checkpoints():
    start = params("classifier")
    optimizer = make_optimizer(start, name="rmsprop", learning_rate=1e-3)
    state = jax.eval_shape(lambda p: first_state(p, optimizer, None, averaged=True), start)
    assert sorted(flatten(state)) == NAMES["classifier"]


def test_the_path_of_a_parameter_is_its_name_in_a_state_without_value():
    found = parameter_paths(nnx.eval_shape(lambda: network("hybridhash")))
    assert "levels/1/interaction/global_branch/token_attention/attention/qkv/kernel" in found
    assert [f"{path}/value" for path in found] == list(flatten(params("hybridhash")))
    assert list(found) == jax.tree.leaves(map_paths(str, params("hybridhash")))


@pytest.mark.parametrize(
    ("head", "own"),
    [
        ("classifier", {"head/bias", "head/kernel"}),
        ("linear", {"hash_head/bias", "hash_head/kernel"}),
        ("tanh", {"hash_head/bias", "hash_head/kernel"}),
    ],
)
def test_a_head_is_one_part_beside_those_of_the_backbone(head, own):
    found = set(parameter_paths(nnx.eval_shape(lambda: network(head))))
    assert own == {path for path in found if "head" in path}
    assert {path.split("/")[0] for path in found - own} == {"patch_embed", "levels", "norm"}


def test_a_seed_gives_the_weights_it_always_gave():
    """A few numbers that the version without backbones drew."""
    for head, expected in (("hybridhash", HASHING), ("classifier", CLASSIFYING)):
        found = parameter_paths(network(head))
        for path, value in expected.items():
            first = np.asarray(found[path][...]).ravel()[:2]
            np.testing.assert_allclose(first, value, rtol=1e-5, err_msg=path)


def test_a_pattern_is_found_anywhere_in_a_name():
    assert matches(("norm", "^lev"), "patch_embed/kernel", "levels/0/x")
    assert not matches(("norm", "^lev"), "patch_embed/kernel", "x/levels/0")


@pytest.mark.parametrize(
    ("pattern", "message"), [("(", "option: '\\(' is no regular"), ("nrom", "matches no parameter")]
)
def test_a_misspelled_pattern_is_refused(pattern, message):
    with pytest.raises(ValueError, match=message):
        check_patterns("option", ["norm", pattern], ["a/norm", "b/kernel"])


PARTS = {"a": {"x": 1, "y": 2}, "b": {"z": 3}, "c": 4}
FLAGS = {"a": {"x": True, "y": False}, "b": {"z": True}, "c": False}


@pytest.mark.parametrize("kind", [dict, nnx.State])
def test_what_is_flagged_is_left_out_and_comes_back(kind):
    parts = parts_by_flag(FLAGS)
    rest = without_flagged(kind(PARTS), parts)
    assert isinstance(rest, kind)
    assert jax.tree.leaves(rest) == [2, 4]
    back = joined(kind(PARTS), jax.tree.map(lambda x: 10 * x, rest), parts)
    assert isinstance(back, kind)
    assert jax.tree.leaves(back) == [1, 20, 3, 40]


def test_nothing_flagged_leaves_a_tree_as_it_is():
    parts = parts_by_flag({"a": {"x": False, "y": False}, "b": {"z": False}, "c": False})
    assert without_flagged(PARTS, parts) is PARTS
    assert joined(PARTS, {"other": 1}, parts) == {"other": 1}


def test_values_go_to_their_paths_and_nowhere_else():
    params = {"a": {"kernel": jnp.zeros(2)}, "b": {"bias": jnp.zeros(1)}}
    found = with_values(params, {"a/kernel": np.ones(2)})
    assert found["a"]["kernel"].tolist() == [1, 1]
    assert found["b"]["bias"].tolist() == [0]
    with pytest.raises(KeyError, match="a/kernle"):
        with_values(params, {"a/kernle": np.ones(2)})
