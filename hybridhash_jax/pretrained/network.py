"""What loading must know about a network, and the sizes that a set of arrays looks like."""

import dataclasses
import functools
import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from flax import nnx

from hybridhash_jax.models import Network
from hybridhash_jax.models.efficientnet_lite import EfficientNetLite
from hybridhash_jax.models.interaction import TokenAttention
from hybridhash_jax.models.layers import Attention
from hybridhash_jax.models.nest import NestBackbone
from hybridhash_jax.models.variants import EFFICIENTNET_LITE, NEST
from hybridhash_jax.parameters import parameter_paths

Shapes = Mapping[str, tuple[int, ...]]
# Modules whose last axis the task decides, and what it is.
OUTPUTS = {
    "hash_head/to_bits": "bits",
    "hash_head": "bits",
    "hash_head/fc2": "bits",
    "hash_head/inner": "bits",
    "hash_head/inner/fc2": "bits",
    "hash_head/norm": "bits",
    "hash_head/units": "units of bits",
    "head": "classes",
}


@dataclasses.dataclass(frozen=True)
class Target:
    """The network that is to be filled: its parameters and attention modules by path."""

    shapes: dict[str, tuple[int, ...]]
    heads: dict[str, int]
    options: dict[str, str]  # what changes the function but no shape, by the argument's name


def describe_network(model: Network) -> Target:
    """What is to be filled; `model` may be abstract (from `nnx.eval_shape`)."""
    shapes = {path: tuple(value.shape) for path, value in parameter_paths(model).items()}
    heads, options = {}, {}
    for path, module in nnx.iter_modules(model):
        if isinstance(module, Attention):
            heads["/".join(str(part) for part in path if part != "backbone")] = module.num_heads
        elif isinstance(module, TokenAttention):
            options["token_layout"] = module.layout
        elif isinstance(module, NestBackbone):
            options["gelu"] = module.options.gelu
            if len(module.levels) > 1:
                options["pool_padding"] = module.pool_padding
    return Target(shapes, heads, options)


def shapes_of(arrays: Mapping[str, np.ndarray]) -> Shapes:
    """Shapes by path."""
    return {path: array.shape for path, array in arrays.items()}


def attention_modules(paths: Iterable[str]) -> list[str]:
    """Paths of the attention modules that these parameters belong to."""
    return [path.removesuffix("/qkv/kernel") for path in paths if path.endswith("/qkv/kernel")]


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
        own = (self.embed_dims, self.depths, self.patch_size)
        for name, sizes in NEST.items():
            if own == (sizes["embed_dims"], sizes["depths"], sizes["patch_size"]):
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
    return Sizes(
        embed_dims=tuple(shape[-1] for shape in positions),
        depths=tuple(depths.get(i, 0) for i in range(len(depths))),
        patch_size=patch[0],
        image_size=math.isqrt(positions[0][1] * positions[0][2]) * patch[0],
    )


def looks_like(shapes: Shapes) -> str:
    """The sizes in words, with the variant's name where they are one's."""
    sizes = sizes_of(shapes)
    if any(path.startswith("blocks/") for path in shapes):
        return _looks_like_efficientnet(shapes)
    if sizes is None:
        head = ", ".join(_outputs(shapes))
        return f"a head alone ({head})" if head else "no network that this program knows"
    words = [f"{name}={value}" for name, value in dataclasses.asdict(sizes).items()]
    if any("/interaction/global_branch/" in path for path in shapes):
        words.append("interaction=full")
    words += _outputs(shapes)
    return f"{sizes.variant or 'no named variant'} ({', '.join(words)})"


def _looks_like_efficientnet(shapes: Shapes) -> str:
    """As `looks_like`, by the widths of the blocks."""
    widths = _block_widths(shapes)
    own = {name: _widths_of_variant(name) for name in EFFICIENTNET_LITE}
    variant = next((name for name, theirs in own.items() if theirs == widths), None)
    words = [f"blocks={len(widths)}", f"last width={widths[-1] if widths else 0}"]
    words += _outputs(shapes)
    return f"{variant or 'no named variant'} ({', '.join(words)})"


def _outputs(shapes: Shapes) -> list[str]:
    """How many bits and classes, where there are some."""
    return [
        f"{outputs}={kernel[-1]}"
        for head, outputs in OUTPUTS.items()
        if (kernel := shapes.get(f"{head}/kernel"))
    ]


def _block_widths(shapes: Shapes) -> list[int]:
    found = {
        int(path.split("/")[1]): shape[-1]
        for path, shape in shapes.items()
        if re.fullmatch(r"blocks/\d+/project/kernel", path)
    }
    return [found[i] for i in sorted(found)]


@functools.cache  # a second each, and many runs of one process load the same weights
def _widths_of_variant(name: str) -> list[int]:
    network = nnx.eval_shape(lambda: EfficientNetLite(**EFFICIENTNET_LITE[name]))
    shapes = {path: tuple(value.shape) for path, value in parameter_paths(network).items()}
    return _block_widths(shapes)
