"""Weights written under other programs' names: bit for bit, both ways, and nothing overwritten."""

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from hybridhash_jax import pretrained
from hybridhash_jax.pretrained.sources import read_source
from hybridhash_jax.tools.convert_weights import main
from tests.pretrained.pretrained_files import (
    GOLDEN,
    assert_same,
    images,
    parameters,
    small_classifier,
    small_network,
    write_run,
)
from tests.pretrained.torch_pickles import Ordered, storage, tensor, write_zip


@pytest.fixture(name="runs", scope="module")
def fixture_runs(tmp_path_factory):
    """Workdirs: hash and plain (HybridHash without its global branches), nest (a classifier)."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "hash", {4: small_network(seed=4), 8: small_network(seed=8)})
    write_run(folder / "plain", {2: small_network(seed=2, interaction="none")}, interaction="none")
    write_run(folder / "nest", {3: small_classifier(seed=3)})
    return folder


def converted(capsys, source, out, *options):
    assert main([f"--from={source}", f"--to={out}", *options]) == 0
    return capsys.readouterr().out


def refused(capsys, source, out, *options):
    assert main([f"--from={source}", f"--to={out}", *options]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and not captured.out
    return captured.err


def test_a_trained_network_makes_the_round_trip_bit_for_bit(capsys, runs, tmp_path):
    out = tmp_path / "hybridhash.safetensors"
    text = converted(capsys, runs / "hash", out, "--checkpoint=latest")
    assert "checkpoint of step 8 (latest)" in text
    assert "read" in text and "(own run)" in text and "(HybridHash)" in text
    assert "left out: opt_state/momentum; training state" in text
    model, original = small_network(), small_network(seed=8)
    pretrained.load_pretrained(model, out)
    assert_same(model, original)
    encode = jax.jit(lambda network, batch: network(batch))
    batch = images(model)
    np.testing.assert_array_equal(encode(model, batch), encode(original, batch))


def test_the_authors_names_and_axes_are_written_as_their_code_has_them(capsys, runs, tmp_path):
    """By hand, not through the table that reads them."""
    out = tmp_path / "x.safetensors"
    converted(capsys, runs / "hash", out, "--checkpoint=4")
    tensors, ours = load_file(out), parameters(small_network(seed=4))
    kernel = ours["levels/1/layers/2/attention/proj/kernel"]  # rows h * 4 + c, of 4 heads
    weight = tensors["levels.1.transformer_encoder.2.attn.proj.weight"]  # columns c * 4 + h
    for head in range(4):
        for channel in range(4):
            row, column = head * 4 + channel, channel * 4 + head
            np.testing.assert_array_equal(weight[:, column], kernel[row])
    conv = ours["levels/1/interaction/conv/kernel"]
    np.testing.assert_array_equal(tensors["levels.1.pool.conv.weight"][5, 3], conv[:, :, 3, 5])
    bits = ours["hash_head/to_bits/kernel"]
    assert tensors["hashlayer_train.conv2.weight"].shape == (8, 16, 1, 1)
    np.testing.assert_array_equal(tensors["hashlayer_train.conv2.weight"][:, :, 0, 0], bits.T)
    assert tensors["levels.1.pool.conv_glo.weight"].shape == (16, 8, 1, 1)
    assert tensors["FcLayer.weight"].shape == (8, 16) and not tensors["FcLayer.weight"].any()
    with safe_open(out, "np") as file:
        assert file.metadata()["num_heads"] == "2,4" and file.metadata()["token_heads"] == "8"


@pytest.mark.parametrize("layout", ["reference", "spatial"])
def test_the_authors_file_is_written_again_as_it_was(capsys, tmp_path, layout):
    source = GOLDEN / f"tiny16_{layout}.safetensors"
    converted(capsys, source, tmp_path / "again.safetensors")
    before, after = load_file(source), load_file(tmp_path / "again.safetensors")
    assert before.keys() == after.keys()
    for name, array in before.items():
        if not name.startswith("FcLayer"):  # never used; zeros are written
            np.testing.assert_array_equal(after[name], array, err_msg=name)


@pytest.mark.parametrize(
    ("golden", "middle"), [("timm_nest.safetensors", "flax"), ("google_nest.flax", "safetensors")]
)
def test_timm_and_google_convert_into_each_other_and_back(capsys, tmp_path, golden, middle):
    source, there = GOLDEN / golden, tmp_path / f"there.{middle}"
    back = tmp_path / f"back.{golden.rpartition('.')[2]}"
    heads = "--num_heads=3,6,12"
    converted(capsys, source, there, heads)
    converted(capsys, there, back, heads)
    original, again = read_source(source), read_source(back)
    assert original.arrays.keys() == again.arrays.keys()
    for path, array in original.arrays.items():
        np.testing.assert_array_equal(again.arrays[path], array, err_msg=path)
    assert read_source(there).kind != original.kind
    assert (source.suffix == ".flax") == (original.kind == "Google NesT")


def test_a_converted_network_computes_the_same(capsys, runs, tmp_path):
    outputs = []
    for name in ("a.safetensors", "b.flax"):
        converted(capsys, runs / "nest", tmp_path / name)
        model = small_classifier()
        pretrained.load_pretrained(model, tmp_path / name)
        assert_same(model, small_classifier(seed=3))
        outputs.append(jax.jit(lambda network, batch: network(batch))(model, images(model)))
    np.testing.assert_array_equal(*outputs)


def test_a_pth_file_is_converted_to_safetensors(capsys, tmp_path):
    tensors = load_file(GOLDEN / "timm_nest.safetensors")
    content = {
        name: tensor(storage(name, a.size), a.shape, tuple(s // 4 for s in a.strides))
        for name, a in tensors.items()
    }
    write_zip(tmp_path / "nest.pth", Ordered(content), tensors)
    converted(capsys, tmp_path / "nest.pth", tmp_path / "nest.safetensors")
    after = load_file(tmp_path / "nest.safetensors")
    assert tensors.keys() == after.keys()
    assert all((after[name] == array).all() for name, array in tensors.items())


def test_half_precision_stays_as_it_is(capsys, tmp_path):
    halves = {
        n: a.astype(np.float16) for n, a in load_file(GOLDEN / "timm_nest.safetensors").items()
    }
    save_file(halves, tmp_path / "half.safetensors")
    converted(capsys, tmp_path / "half.safetensors", tmp_path / "half.flax", "--num_heads=3,6,12")
    arrays = read_source(tmp_path / "half.flax").arrays
    assert {array.dtype.name for array in arrays.values()} == {"float16"}


def test_what_google_s_format_cannot_hold_is_refused_unless_left_out(capsys, runs, tmp_path):
    out = tmp_path / "x.flax"
    message = refused(capsys, runs / "hash", out)
    assert "15 arrays that have no place" in message and "hash_head/* (10)" in message
    assert "levels/1/interaction/global_branch/* (5)" in message
    assert not out.exists()
    text = converted(capsys, runs / "hash", out, "--leave_out=hash_head", "--leave_out=global_b")
    assert "left out: hash_head/*; as told" in text
    model = small_classifier()
    loaded = pretrained.load_pretrained(model, out)
    assert set(loaded.names("newly initialised")) == {"head/kernel", "head/bias"}


def test_what_has_no_place_is_named_before_its_heads_are_asked_for(capsys, tmp_path):
    """The authors' files do not tell the heads of the global branch, which Google's cannot hold."""
    tensors = load_file(GOLDEN / "tiny16_spatial.safetensors")
    save_file(tensors, tmp_path / "untold.safetensors")
    heads = "--num_heads=1,2,4"
    message = refused(capsys, tmp_path / "untold.safetensors", tmp_path / "x.flax", heads)
    assert "global_branch" in message and "--leave_out" in message


def test_a_hash_net_without_global_branches_keeps_the_authors_names(capsys, runs, tmp_path):
    out = tmp_path / "x.safetensors"
    converted(capsys, runs / "plain", out)
    model = small_network(interaction="none")
    pretrained.load_pretrained(model, out)
    assert_same(model, small_network(seed=2, interaction="none"))


def test_unknown_heads_are_asked_for(capsys, tmp_path):
    out = tmp_path / "x.flax"
    message = refused(capsys, GOLDEN / "timm_nest.safetensors", out)
    assert "not known" in message and "--num_heads" in message
    message = refused(capsys, GOLDEN / "timm_nest.safetensors", out, "--num_heads=5,6,12")
    assert "a divisor of its width" in message
    assert not out.exists()


def test_an_unknown_entry_is_refused_unless_left_out(capsys, tmp_path):
    tensors = load_file(GOLDEN / "timm_nest.safetensors")
    save_file(tensors | {"odd.one": np.zeros(2, np.float32)}, tmp_path / "odd.safetensors")
    out = tmp_path / "x.safetensors"
    assert "odd.one (1)" in refused(capsys, tmp_path / "odd.safetensors", out)
    assert "odd.one" in converted(capsys, tmp_path / "odd.safetensors", out, "--leave_out=^odd")


@pytest.mark.parametrize(("pattern", "message"), [("(", "no regular"), ("haed", "matches no name")])
def test_a_misspelled_pattern_is_refused(capsys, runs, tmp_path, pattern, message):
    out = tmp_path / "x.flax"
    assert message in refused(capsys, runs / "nest", out, f"--leave_out={pattern}")
    assert not out.exists()


def test_a_file_is_overwritten_only_by_force(capsys, runs, tmp_path):
    out = tmp_path / "x.safetensors"
    out.write_text("mine")
    assert "exists; give --force" in refused(capsys, runs / "nest", out)
    assert out.read_text() == "mine"
    converted(capsys, runs / "nest", out, "--force")
    assert read_source(out).kind == "timm NesT"


@pytest.mark.parametrize(
    ("source", "out", "message"),
    [
        ("nest", "x.onnx", "ending '.onnx' is none of .safetensors"),
        ("nest", "nowhere/x.flax", "does not exist; make it first"),
        ("none", "x.flax", "No such file"),
    ],
)
def test_mistakes_are_explained(capsys, runs, tmp_path, source, out, message):
    assert message in refused(capsys, runs / source, tmp_path / out)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [[], ["--from=x"], ["--from=x", "--to=y", "--num_heads=a"]])
def test_wrong_flags_are_told_in_one_line(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    told = capsys.readouterr().err
    assert stopped.value.code == 2
    assert told.startswith("error: ") and told.count("\n") == 1 and "--help" in told
