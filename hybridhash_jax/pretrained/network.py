"""What loading must know about a network, and the sizes that a set of arrays looks like."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flax import nnx

from hybridhash_jax.models import VARIANTS

Shapes = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Network:
    """Attributes:
    shapes: of every parameter, by its path.
    heads: of every attention module, by its path.
    options: what changes the function but no shape, by the argument's name.
    """

    shapes: dict[str, tuple[int, ...]]
    heads: dict[str, int]
    options: dict[str, str]


def parameter_paths(model: nnx.Module) -> dict[str, nnx.Param]:
    """Every parameter by its path, such as `levels/0/layers/1/attention/qkv/kernel`."""
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return {"/".join(map(str, path)): value for path, value in flat}


def describe_network(model: Any) -> Network:
    """What is to be filled; `model` may be abstract (from `nnx.eval_shape`)."""
    shapes = {path: tuple(value.shape) for path, value in parameter_paths(model).items()}
    heads = {path: _module(model, path).num_heads for path in attention_modules(shapes)}
    options = {"gelu": model.levels[0].layers[0].mlp.gelu}
    branches = [path for path in heads if "token_attention" in path]
    if branches:
        token_attention = _module(model, branches[0].removesuffix("/attention"))
        options["token_layout"] = token_attention.token_layout
    if len(model.levels) > 1:
        options["pool_padding"] = model.levels[1].interaction.pool_padding
    return Network(shapes, heads, options)


def attention_modules(paths: Iterable[str]) -> list[str]:
    """Paths of the attention modules that these parameters belong to."""
    ending = "/qkv/kernel"
    return [path.removesuffix(ending) for path in paths if path.endswith(ending)]


def heads_by_module(
    paths: Iterable[str], num_heads: Sequence[int], token_heads: int
) -> dict[str, int]:
    """Heads of each attention module of a network with these sizes; 0 token heads: unknown."""
    found = {}
    for module in attention_modules(paths):
        level = re.match(r"levels/(\d+)/layers/", module)
        if level is None and token_heads > 0:
            found[module] = token_heads
        elif level and int(level[1]) < len(num_heads):
            found[module] = num_heads[int(level[1])]
    return found


def _module(model: Any, path: str) -> Any:
    for part in path.split("/"):
        model = model[int(part)] if part.isdigit() else getattr(model, part)
    return model


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The sizes of a network, read off its arrays."""

    embed_dims: tuple[int, ...]
    depths: tuple[int, ...]
    patch_size: int
    image_size: int

    @property
    def variant(self) -> str | None:
        """The variant of these sizes, for whatever image size; None for none."""
        for name, sizes in VARIANTS.items():
            theirs = (sizes["embed_dims"], sizes["depths"], sizes["patch_size"])
            if theirs == (self.embed_dims, self.depths, self.patch_size):
                return name
        return None


def sizes_of(shapes: Shapes) -> Sizes | None:
    """The sizes that these parameters make; None if they make no network."""
    depths: dict[int, int] = {}
    for path in shapes:
        if match := re.match(r"levels/(\d+)/layers/(\d+)/", path):
            level, layer = int(match[1]), int(match[2])
            depths[level] = max(depths.get(level, 0), layer + 1)
    positions = [shapes.get(f"levels/{i}/position_embedding", ()) for i in range(len(depths))]
    patch = shapes.get("patch_embed/kernel", ())
    if not depths or any(len(shape) != 4 for shape in (*positions, patch)):
        return None
    side = math.isqrt(positions[0][1] * positions[0][2])
    return Sizes(
        embed_dims=tuple(shape[-1] for shape in positions),
        depths=tuple(depths.get(i, 0) for i in range(len(depths))),
        patch_size=patch[0],
        image_size=side * patch[0],
    )


def looks_like(shapes: Shapes) -> str:
    """The sizes in words, with the variant's name where they are one's."""
    sizes = sizes_of(shapes)
    if sizes is None:
        return "no NesT"
    numbers = ", ".join(f"{name}={value}" for name, value in dataclasses.asdict(sizes).items())
    return f"{sizes.variant or 'no named variant'} ({numbers}{_endings(shapes)})"


def _endings(shapes: Shapes) -> str:
    text = ""
    if any("/interaction/global_branch/" in path for path in shapes):
        text += ", interaction=full"
    if kernel := shapes.get("hash_head/to_bits/kernel"):
        text += f", bits={kernel[-1]}"
    if kernel := shapes.get("head/kernel"):
        text += f", num_classes={kernel[-1]}"
    return text
