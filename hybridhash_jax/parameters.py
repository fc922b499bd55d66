"""Paths of parameters, and the patterns on them that users give."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

Tree = TypeVar("Tree")
# A network's parts keep the paths that they had when there was one backbone, so that weight files,
# old checkpoints and patterns in configurations stay what they are.
_NOT_IN_PATHS = "backbone"
# Never trained: running statistics of batch norm, and what features are normalised by.
_CONSTANTS = r"/running_(mean|variance)$|^feature_norm/"


def leaf_name(key_path: Sequence[Any]) -> str:
    """A leaf of a training state by name, such as `params/levels/0/position_embedding/value`."""
    parts = jax.tree_util.keystr(tuple(key_path), simple=True, separator="/").split("/")
    return "/".join(part for part in parts if part != _NOT_IN_PATHS)


def parameter_path(key_path: Sequence[Any]) -> str:
    """The path of a parameter or its value, such as `levels/0/layers/1/attention/qkv/kernel`."""
    return leaf_name(key_path).removesuffix("/value")


def flatten(tree: Any) -> dict[str, Any]:
    """A pytree's leaves by `leaf_name`: the names of arrays in checkpoints."""
    return {leaf_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def by_path(params: Any) -> dict[str, Any]:
    """The leaves of a pytree like a network's parameters by `parameter_path`."""
    return {name.removesuffix("/value"): leaf for name, leaf in flatten(params).items()}


def parameter_paths(model: nnx.Module) -> dict[str, nnx.Param]:
    """Every parameter of `model` by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(
        nnx.state(model, nnx.Param), is_leaf=lambda x: isinstance(x, nnx.Param)
    )
    return {parameter_path(path): leaf for path, leaf in leaves}


def map_paths(function: Callable[[str], Any], params: Any) -> Any:
    """A pytree like `params` of what `function` says of each parameter's path."""
    return jax.tree_util.tree_map_with_path(lambda path, _: function(parameter_path(path)), params)


def with_values(params: Any, values: Mapping[str, Any]) -> Any:
    """`params` with `values` by path in place of their own; a KeyError for a path without place."""
    if unknown := set(values).difference(jax.tree.leaves(map_paths(str, params))):
        raise KeyError(f"no such parameters: {', '.join(sorted(unknown))}")

    def value_of(path: Sequence[Any], own: Any) -> Any:
        return jnp.asarray(values.get(parameter_path(path), own))

    return jax.tree_util.tree_map_with_path(value_of, params)


def constants(params: Any) -> tuple[str, ...]:
    """Patterns of what is never trained in `params`; none where there is nothing of the kind."""
    paths = jax.tree.leaves(map_paths(str, params))
    return (_CONSTANTS,) if any(re.search(_CONSTANTS, path) for path in paths) else ()


def num_trainable(params: Any) -> int:
    """How many numbers of `params` are parameters, and not constants."""
    mask = map_paths(lambda path: re.search(_CONSTANTS, path) is None, params)
    sizes = jax.tree.map(lambda x, counts: x.size if counts else 0, params, mask)
    return sum(jax.tree.leaves(sizes))


def module_paths(model: nnx.Module) -> dict[str, nnx.Module]:
    """Every module inside `model` by the path that its parameters begin with."""
    found = nnx.iter_modules(model)
    return {"/".join(str(x) for x in path if x != _NOT_IN_PATHS): module for path, module in found}


def norms_in_training(frozen: Any) -> tuple[str, ...]:
    """Paths of the batch norms of which something is trained.

    `frozen` is a pytree of booleans like the parameters, see `optimizer.frozen_mask`.
    """
    mask = by_path(frozen)
    ends = "/running_mean"
    paths = [name.removesuffix(ends) for name in mask if name.endswith(ends)]
    own = {
        path: [flag for name, flag in mask.items() if name.startswith(f"{path}/")] for path in paths
    }
    return tuple(path for path, flags in own.items() if not all(flags))


def matches(patterns: Sequence[str], *names: str) -> bool:
    """Is one of the patterns found in one of the names?"""
    return any(re.search(pattern, name) for pattern in patterns for name in names)


def check_patterns(
    option: str, patterns: Sequence[str], names: Iterable[str], what: str = "parameter"
) -> None:
    """Refuses a pattern that is no regular expression or, as a misspelled one, is in no name.

    The ValueError names `option`, where the patterns were given, and calls a name a `what`.
    """
    names = list(names)
    for pattern in patterns:
        try:
            found = any(re.search(pattern, name) for name in names)
        except (re.error, TypeError) as error:
            raise ValueError(f"{option}: {pattern!r} is no regular expression ({error})") from None
        if not found:
            some = ", ".join(names[:: max(1, len(names) // 6)])
            raise ValueError(
                f"{option}: {pattern!r} matches no {what}. There are, for example: {some}"
            )


def parts_by_flag(flags: Any) -> Any:
    """A tree of booleans as nested mappings of names; True or False where all below is alike."""
    found = set(jax.tree.leaves(flags))
    return found.pop() if len(found) == 1 else {name: parts_by_flag(flags[name]) for name in flags}


def without_flagged(params: Tree, parts: Any) -> Tree:
    """`params`, a State or nested dictionaries, without what is True in `parts_by_flag`.

    Nothing is flattened, which of hundreds of arrays takes as long as a small network's step.
    """

    def below(own: Any, parts: Any) -> Any:
        rest = {name: part for name, part in parts.items() if part is not True}
        return {name: below(own[name], part) if part else own[name] for name, part in rest.items()}

    return _like(params, below(_mapping(params), parts)) if parts else params


def part_like(params: Any, part: Any) -> Any:
    """Of `params` what is in `part`, which `without_flagged` made of such parameters."""

    def below(own: Any, part: Any) -> Any:
        if not isinstance(part, Mapping):
            return own
        return {name: below(own[name], inner) for name, inner in part.items()}

    return _like(params, below(_mapping(params), _mapping(part)))


def joined(params: Tree, rest: Any, parts: Any) -> Tree:
    """`params` with `rest`, of which `without_flagged` left others out, in its places."""

    def below(own: Any, new: Any, parts: Any) -> Any:
        found = {}
        for name, part in parts.items():
            found[name] = own[name] if part is True else new[name]
            if isinstance(part, dict):
                found[name] = below(own[name], new[name], part)
        return found

    return _like(params, below(_mapping(params), _mapping(rest), parts)) if parts else rest


def _mapping(params: Any) -> Any:
    return params.raw_mapping if isinstance(params, nnx.State) else params


def _like(params: Any, mapping: Any) -> Any:
    return type(params)(mapping)
