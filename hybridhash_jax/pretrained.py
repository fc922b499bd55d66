"""Parameters from checkpoints that other programs wrote.

Each entry of a file is matched by one row of a table; every entry that no row matches, every
parameter that no entry fills and every shape that differs is collected and raised in one error.
Nothing is skipped silently.
"""

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from hybridhash_jax.models import HybridHash
from hybridhash_jax.torch_files import read_tensors

Transform = Callable[[np.ndarray, int], np.ndarray]


class IncompatibleWeightsError(ValueError):
    """The file's entries and the network's parameters do not match one to one."""


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What a load did: parameter paths filled, and entries of the file left out on purpose."""

    loaded: tuple[str, ...]
    left_out: tuple[str, ...]


def _keep(array: np.ndarray, heads: int) -> np.ndarray:
    return array


def _linear(array: np.ndarray, heads: int) -> np.ndarray:
    """[out, in] or, for a 1x1 convolution, [out, in, 1, 1] -> [in, out]."""
    return array.reshape(array.shape[0], -1).T


def _conv(array: np.ndarray, heads: int) -> np.ndarray:
    """OIHW -> HWIO."""
    return array.transpose(2, 3, 1, 0)


def _projection(array: np.ndarray, heads: int) -> np.ndarray:
    """[out, in] -> [in, out], input channels from c*heads + h to h*head_dim + c."""
    kernel = array.T
    channels, outputs = kernel.shape
    split = kernel.reshape(channels // heads, heads, outputs)
    return split.transpose(1, 0, 2).reshape(channels, outputs)


def _rows(torch_name: str, path: str, kernel: Transform, *, bias: bool = True):
    """The rows of one layer: its weight and, where it has one, its bias."""
    rows = [(torch_name + r"\.weight", path + "/kernel", kernel)]
    return rows + ([(torch_name + r"\.bias", path + "/bias", _keep)] if bias else [])


def _norm_rows(torch_name: str, path: str):
    return [
        (torch_name + r"\.weight", path + "/scale", _keep),
        (torch_name + r"\.bias", path + "/bias", _keep),
    ]


def _token_attention_rows(torch_name: str, path: str):
    return [
        (torch_name + r"\.pos_embed_glo", path + "/position_embedding", _keep),
        *_rows(torch_name + r"\.qkv", path + "/attention/qkv", _linear, bias=False),
        *_rows(torch_name + r"\.proj", path + "/attention/proj", _projection),
    ]


_LAYER, _LAYER_PATH = r"levels\.(\d+)\.transformer_encoder\.(\d+)", r"levels/\1/layers/\2"
_POOL, _POOL_PATH = r"levels\.(\d+)\.pool", r"levels/\1/interaction"

# The authors' PyTorch names -> our parameter paths, and how the array changes on the way.
_AUTHORS_TABLE: list[tuple[str, str, Transform]] = [
    *_rows(r"patch_embed\.proj", "patch_embed", _conv),
    (r"levels\.(\d+)\.pos_embed", r"levels/\1/position_embedding", _keep),
    *_norm_rows(_LAYER + r"\.norm1", _LAYER_PATH + "/norm1"),
    *_norm_rows(_LAYER + r"\.norm2", _LAYER_PATH + "/norm2"),
    *_rows(_LAYER + r"\.attn\.qkv", _LAYER_PATH + "/attention/qkv", _linear),
    *_rows(_LAYER + r"\.attn\.proj", _LAYER_PATH + "/attention/proj", _projection),
    *_rows(_LAYER + r"\.mlp\.fc1", _LAYER_PATH + "/mlp/fc1", _linear),
    *_rows(_LAYER + r"\.mlp\.fc2", _LAYER_PATH + "/mlp/fc2", _linear),
    *_rows(_POOL + r"\.conv", _POOL_PATH + "/conv", _conv),
    *_norm_rows(_POOL + r"\.norm", _POOL_PATH + "/norm"),
    *_rows(_POOL + r"\.conv_glo", _POOL_PATH + "/global_branch/conv", _linear, bias=False),
    *_token_attention_rows(
        _POOL + r"\.global_attention", _POOL_PATH + "/global_branch/token_attention"
    ),
    *_norm_rows("norm", "norm"),
    *_rows(r"hashlayer_train\.convS1", "hash_head/conv_1x3", _conv),
    *_rows(r"hashlayer_train\.convS2", "hash_head/conv_3x1", _conv),
    *_rows(r"hashlayer_train\.conv2", "hash_head/to_bits", _linear),
    *_token_attention_rows(
        r"hashlayer_train\.global_attention", "hash_head/global_branch/token_attention"
    ),
]
# A linear layer that the authors' code creates and never uses.
_LEFT_OUT = re.compile(r"FcLayer\.(weight|bias)")


def load_torch_checkpoint(model: HybridHash, path: str | os.PathLike[str]) -> LoadReport:
    """Fills `model` from a checkpoint under the authors' PyTorch names (spec: checkpoints).

    Args:
      model: the network to fill, in place; its sizes and bits must be the checkpoint's.
      path: a `.safetensors` file, or a `.pth` file, which is read weights-only.

    Returns:
      What was loaded and what was left out (`FcLayer`, which the published code never uses).

    Raises:
      WeightFileError: the file is missing, broken or not a file of tensors.
      IncompatibleWeightsError: entries or parameters are left over, or shapes differ; all of
        them are named, and `model` is unchanged.
    """
    tensors = read_tensors(path)
    parameters = parameter_paths(model)
    converted, problems, left_out = {}, [], []
    for name, array in tensors.items():
        if _LEFT_OUT.fullmatch(name):
            left_out.append(name)
            continue
        match = _match(name)
        if match is None:
            problems.append(f"the file's {name} {array.shape} has no place in this network")
            continue
        target, transform = match
        if target not in parameters:
            problems.append(f"the file's {name} would be {target}, which this network lacks")
            continue
        expected = parameters[target].shape
        problem, value = _convert(array, transform, _heads_of(model, target), expected)
        if problem:
            problems.append(f"the file's {name} {array.shape} does not fit {target} {expected}")
        converted[target] = value
    missing = [path for path in parameters if path not in converted]
    problems += [f"{path} {parameters[path].shape} is not in the file" for path in missing]
    if problems:
        raise IncompatibleWeightsError(_describe(os.fspath(path), problems))
    _assign(model, converted)
    return LoadReport(tuple(sorted(converted)), tuple(sorted(left_out)))


def parameter_paths(model: nnx.Module) -> dict[str, nnx.Param]:
    """Every parameter by its path, such as `levels/0/layers/1/attention/qkv/kernel`."""
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return {"/".join(map(str, path)): value for path, value in flat}


def _match(name: str) -> tuple[str, Transform] | None:
    for pattern, template, transform in _AUTHORS_TABLE:
        if match := re.fullmatch(pattern, name):
            return match.expand(template), transform
    return None


def _heads_of(model: HybridHash, path: str) -> int:
    """Attention heads of the module that a projection belongs to; 1 for other parameters."""
    module: Any = model
    for part in path.split("/"):
        if isinstance(heads := getattr(module, "num_heads", None), int):
            return heads
        module = module[int(part)] if part.isdigit() else getattr(module, part)
    return 1


def _convert(
    array: np.ndarray, transform: Transform, heads: int, shape: tuple[int, ...]
) -> tuple[bool, np.ndarray]:
    """(does it not fit?, the array in our layout)."""
    if array.size != np.prod(shape, dtype=np.int64):
        return True, array
    if transform is _conv and array.ndim != 4:
        return True, array
    if transform is not _keep and transform is not _conv and array.ndim not in (2, 4):
        return True, array
    value = transform(array, heads)
    return value.shape != shape, value


def _assign(model: HybridHash, arrays: Mapping[str, np.ndarray]) -> None:
    state = nnx.state(model, nnx.Param)
    flat = [
        (path, value.replace(jnp.asarray(arrays["/".join(map(str, path))], jnp.float32)))
        for path, value in nnx.to_flat_state(state)
    ]
    nnx.update(model, nnx.from_flat_state(flat))


def _describe(path: str, problems: list[str]) -> str:
    return (
        f"{path} does not match this network in {len(problems)} places; nothing was loaded. Build "
        "the network with the checkpoint's sizes and bits, or choose another file.\n  "
        + "\n  ".join(problems)
    )
