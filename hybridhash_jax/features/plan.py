"""What of a network is computed once for a run, and how."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from hybridhash_jax import models
from hybridhash_jax.config_fields import Config
from hybridhash_jax.features.store import needed_bytes
from hybridhash_jax.methods import Method
from hybridhash_jax.parameters import by_path, map_paths
from hybridhash_jax.preprocess.augmentation import prepare_images
from hybridhash_jax.runtime.console import logger

_SHAPES: dict[Any, tuple[int, ...]] = {}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What of a network is computed once.

    Attributes:
      stage: of the backbone, the last one that is frozen; the network goes on behind it.
      views: 1, or 2: the image and its mirror image.
      shape: of one view, such as (1280,).
      paths: how the paths of the parameters begin that are behind it: nothing else needs them.
    """

    stage: str
    views: int
    shape: tuple[int, ...]
    paths: tuple[str, ...]

    def is_done(self, params: Any) -> Any:
        """A pytree like `params`: True for those that kept features stand for."""
        return map_paths(lambda path: path.startswith(self.paths), params)


def choose_plan(
    config: Config,
    method: Method,
    network: models.Network,
    frozen: Any,
    *,
    count: int,
    of_files: bool,
) -> Plan | None:
    """What to keep for a run on images; None: nothing, and the log says why where it could be.

    Args:
      config: of the run.
      method: the run's.
      network: may be abstract.
      frozen: what `optimizer.frozen_mask` gave, None for nothing.
      count: how many images there are, of all splits.
      of_files: are they image files?
    """
    if config.features.keep == "never":
        return None
    stage = "features" if method.is_fitted else _last_frozen_stage(network, frozen)
    if stage is None:
        return None
    views = config.features.views or (2 if config.data.horizontal_flip else 1)
    paths = network.backbone.stage_paths
    done = tuple(paths.values())[: list(paths).index(stage) + 1]
    shape = _shape_of(network.backbone, stage, network.image_size)
    plan = Plan(stage, 1 if method.is_fitted else views, shape, done)
    if reason := _reason_against(config, method, plan, count, of_files):
        logger.info("the frozen part is computed every time, and not kept: %s", reason)
        return None
    return plan


def _shape_of(backbone: models.Backbone, stage: str, size: int) -> tuple[int, ...]:
    """The shape of one image's output of a stage; of each backbone it is found once."""
    if stage == "features":  # at once: to trace the backbone takes half a second
        side = () if backbone.grid == 1 else (backbone.grid,) * 2
        return (*side, backbone.width)
    key = nnx.graphdef(backbone), stage, size
    if key not in _SHAPES:
        images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        out = nnx.eval_shape(lambda net, x: net.stages(x), backbone, images)[stage]
        _SHAPES[key] = out.shape[1:]
    return _SHAPES[key]


def _last_frozen_stage(network: models.Network, frozen: Any) -> str | None:
    """The last of the leading stages that are frozen as a whole."""
    if frozen is None:
        return None
    masks = by_path(frozen)
    found = None
    for stage, path in network.backbone.stage_paths.items():
        if not all(flag for name, flag in masks.items() if name.startswith(path)):
            break
        found = stage
    return found


def _reason_against(
    config: Config, method: Method, plan: Plan, count: int, of_files: bool
) -> str | None:
    """Why features of this run cannot be kept, or should not."""
    if jax.process_count() > 1:
        return "several processes run"
    if not method.is_fitted and (reason := _randomness(config, method, plan, of_files)):
        return reason
    budget = config.features.budget_gb * 1e9
    needed = needed_bytes(count, plan.views, plan.shape)
    if needed > budget:
        return f"{count:,} images need {needed / 1e9:.3g} GB, and features.budget_gb is {budget / 1e9:g}"
    return None


def _randomness(config: Config, method: Method, plan: Plan, of_files: bool) -> str | None:
    """What happens to training images at random that views do not hold."""
    if method.learns == "classes":
        return "task=classify changes its images at random"
    for name in ("crop_padding", "random_area"):
        if config.data[name]:
            return f"data.{name} changes the images at random"
    if config.features.keep == "auto" and of_files:
        return "image files are cropped at random; --config.features.keep=always takes their centre"
    if config.data.horizontal_flip and plan.views == 1:
        return "data.horizontal_flip needs --config.features.views=2"
    return None


def features_of(graphdef: Any, plan: Plan, params: Any, images: jax.Array) -> jax.Array:
    """Float16 [B, views, *shape] for images uint8 [B, h, w, 3]."""
    network: models.Network = nnx.merge(graphdef, params)
    backbone = network.backbone
    images = prepare_images(
        images, network.image_size, mean=backbone.pixel_mean, std=backbone.pixel_std
    )
    views = [images, images[:, :, ::-1]][: plan.views]
    found = [backbone.stages(view)[plan.stage] for view in views]
    return jnp.stack(found, 1).astype(jnp.float16)
