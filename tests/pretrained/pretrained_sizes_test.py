"""The published networks in full: every name and shape, written out from their specification."""

import functools
import math
from typing import Any

import numpy as np
import pytest
from flax import nnx

from hybridhash_jax import models
from hybridhash_jax.pretrained import fitting, sources
from hybridhash_jax.pretrained.account import LEFT_OUT, LOADED, NEW, TRANSFORMED
from hybridhash_jax.pretrained.files.torch_files import TensorFile
from hybridhash_jax.pretrained.network import describe_network, looks_like

# name: (widths, heads, depths, parameters in millions, as the NesT paper has them)
NETWORKS = {
    "nest_tiny": ((96, 192, 384), (3, 6, 12), (2, 2, 8), 17),
    "nest_small": ((96, 192, 384), (3, 6, 12), (2, 2, 20), 38),
    "nest_base": ((128, 256, 512), (4, 8, 16), (2, 2, 20), 68),
}
BLOCKS, TOKENS = (16, 4, 1), 196
Shapes = dict[str, tuple[int, ...]]


def linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str, channels: int) -> Shapes:
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def conv(name: str, outputs: int, inputs: int, *kernel: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, *kernel), f"{name}.bias": (outputs,)}


def torch_backbone(widths, depths) -> Shapes:
    shapes = conv("patch_embed.proj", widths[0], 3, 4, 4)
    for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        shapes[f"levels.{i}.pos_embed"] = (1, BLOCKS[i], TOKENS, width)
        if i:
            shapes |= conv(f"levels.{i}.pool.conv", width, widths[i - 1], 3, 3)
            shapes |= norm(f"levels.{i}.pool.norm", width)
        for j in range(depth):
            layer = f"levels.{i}.transformer_encoder.{j}"
            shapes |= norm(f"{layer}.norm1", width) | norm(f"{layer}.norm2", width)
            shapes |= linear(f"{layer}.attn.qkv", 3 * width, width)
            shapes |= linear(f"{layer}.attn.proj", width, width)
            shapes |= linear(f"{layer}.mlp.fc1", 4 * width, width)
            shapes |= linear(f"{layer}.mlp.fc2", width, 4 * width)
    return shapes | norm("norm", widths[-1])


def token_attention(name: str, tokens: int, width: int) -> Shapes:
    return {
        f"{name}.pos_embed_glo": (1, tokens, width),
        f"{name}.qkv.weight": (3 * width, width),
    } | linear(f"{name}.proj", width, width)


def hybridhash(widths, depths, bits: int) -> Shapes:
    shapes = torch_backbone(widths, depths)
    for i in (1, 2):
        shapes[f"levels.{i}.pool.conv_glo.weight"] = (widths[i], widths[i - 1], 1, 1)
        name = f"levels.{i}.pool.global_attention"
        shapes |= token_attention(name, BLOCKS[i - 1], widths[i])
    width = widths[-1]
    shapes |= conv("hashlayer_train.convS1", width, width, 1, 3)
    shapes |= conv("hashlayer_train.convS2", width, width, 3, 1)
    shapes |= conv("hashlayer_train.conv2", bits, width, 1, 1)
    shapes |= token_attention("hashlayer_train.global_attention", 1, width)
    return shapes | linear("FcLayer", bits, width)


def google(widths, heads, depths) -> Shapes:
    def dense(name: str, *kernel: int) -> Shapes:
        return {f"{name}/kernel": kernel, f"{name}/bias": kernel[1:]}

    def layer_norm(name: str, width: int) -> Shapes:
        return {f"{name}/scale": (width,), f"{name}/bias": (width,)}

    shapes: Shapes = {"PatchEmbedding_0/Conv_0/kernel": (4, 4, 3, widths[0])}
    shapes["PatchEmbedding_0/Conv_0/bias"] = (widths[0],)
    n = 0
    for i, (width, head_count, depth) in enumerate(zip(widths, heads, depths, strict=True)):
        shapes[f"PositionEmbedding_{i}/pos_embedding"] = (1, BLOCKS[i], TOKENS, width)
        if i:
            shapes[f"ConvPool_{i - 1}/Conv_0/kernel"] = (3, 3, widths[i - 1], width)
            shapes[f"ConvPool_{i - 1}/Conv_0/bias"] = (width,)
            shapes |= layer_norm(f"ConvPool_{i - 1}/LayerNorm_0", width)
        for _ in range(depth):
            block, head_dim = f"EncoderNDBlock_{n}", width // head_count
            attention = f"{block}/MultiHeadAttention_0"
            shapes |= layer_norm(f"{block}/LayerNorm_0", width)
            shapes |= layer_norm(f"{block}/LayerNorm_1", width)
            shapes |= dense(f"{block}/MlpBlock_0/Dense_0", width, 4 * width)
            shapes |= dense(f"{block}/MlpBlock_0/Dense_1", 4 * width, width)
            shapes |= dense(f"{attention}/DenseGeneral_0", width, head_count, head_dim)
            shapes |= dense(f"{attention}/DenseGeneral_1", width, head_count, 2 * head_dim)
            shapes[f"{attention}/proj_kernel"] = (head_count, head_dim, width)
            shapes[f"{attention}/bias"] = (width,)
            n += 1
    return shapes | layer_norm("LayerNorm_0", widths[-1]) | dense("Dense_0", widths[-1], 1000)


def zeros(shapes: Shapes) -> dict[str, np.ndarray]:
    """Arrays that take no memory."""
    return {n: np.broadcast_to(np.zeros((), np.float32), shape) for n, shape in shapes.items()}


def source_of(kind: str, name: str) -> sources.Source:
    widths, heads, depths, _ = NETWORKS[name]
    if kind == "google":
        return sources.from_google(name, zeros(google(widths, heads, depths)), [], [])
    shapes = torch_backbone(widths, depths) | linear("head", 1000, widths[-1])
    return sources.from_torch(name, TensorFile(zeros(shapes), [], {}))


@functools.cache
def network(variant: str, **options: Any):
    def build():
        return models.create_network(variant, outputs=64, rngs=nnx.Rngs(0), **options)

    return describe_network(nnx.eval_shape(build))


def names(fitted: fitting.Fitted, action: str) -> set[str]:
    return {row.name for row in fitted.rows if row.action == action}


@pytest.mark.parametrize("kind", ["timm", "google"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_published_nest_fills_its_variant_and_only_the_head_is_left_out(kind, name):
    source, target = source_of(kind, name), network(name)
    fitted = fitting.fit(source, target)
    ours = {p for p in target.shapes if "global_branch" in p or p.startswith("hash_head")}
    assert names(fitted, NEW) == ours
    assert names(fitted, LOADED) == set(target.shapes) - ours == set(fitted.arrays)
    assert names(fitted, TRANSFORMED) == set()
    head = {"head.weight", "head.bias"} if kind == "timm" else {"Dense_0/kernel", "Dense_0/bias"}
    assert names(fitted, LEFT_OUT) == head
    assert looks_like({p: a.shape for p, a in source.arrays.items()}).startswith(name + " ")


@pytest.mark.parametrize("name", NETWORKS)
def test_the_lists_of_names_have_as_many_parameters_as_the_paper_says(name):
    widths, heads, depths, millions = NETWORKS[name]
    torch = torch_backbone(widths, depths) | linear("head", 1000, widths[-1])
    counts = {
        sum(math.prod(s) for s in shapes.values())
        for shapes in (torch, google(widths, heads, depths))
    }
    (count,) = counts
    assert round(count / 1e6) == millions


@pytest.mark.parametrize("kind", ["timm", "google"])
def test_the_paper_s_network_takes_fifteen_of_the_twenty_last_layers(kind):
    fitted = fitting.fit(source_of(kind, "nest_base"), network("paper"))
    cut = {row.name for row in fitted.rows if "20 -> 15 layers" in row.reason}
    # Google's attention has q apart from k and v; joined, they are listed as one.
    assert len(cut) == 5 * 12
    prefix = {"timm": "levels.2.transformer_encoder.", "google": "EncoderNDBlock_"}[kind]
    numbers = {
        int(name.removeprefix(prefix).split("." if kind == "timm" else "/")[0]) for name in cut
    }
    assert numbers == {n + (4 if kind == "google" else 0) for n in range(15, 20)}


def test_the_authors_file_fills_the_paper_s_network_but_for_their_unused_layer():
    widths, _, _, _ = NETWORKS["nest_base"]
    shapes = hybridhash(widths, (2, 2, 15), 64)
    assert sum(math.prod(shape) for shape in shapes.values()) == 55_619_072
    source = sources.from_torch("authors.pth", TensorFile(zeros(shapes), [], {}))
    target = network("paper")
    fitted = fitting.fit(source, target)
    assert names(fitted, LOADED) == set(target.shapes)
    assert names(fitted, LEFT_OUT) == {"FcLayer.weight", "FcLayer.bias"}
    assert not names(fitted, NEW) and not names(fitted, TRANSFORMED)
    assert looks_like({p: a.shape for p, a in source.arrays.items()}).startswith("paper ")


@pytest.mark.parametrize("size", [192, 256])
def test_another_image_size_transforms_the_position_embeddings_and_nothing_else(size):
    fitted = fitting.fit(source_of("timm", "nest_tiny"), network("nest_tiny", image_size=size))
    assert names(fitted, TRANSFORMED) == {f"levels/{i}/position_embedding" for i in range(3)}
