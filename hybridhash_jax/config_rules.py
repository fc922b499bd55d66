"""What values a configuration may have, collected from who uses them and checked at the start."""

import difflib
import math
from typing import Any

from hybridhash_jax import accumulation, models, optimizer
from hybridhash_jax.config_fields import Config, ConfigError, flat_fields
from hybridhash_jax.distributed import mesh
from hybridhash_jax.features import options
from hybridhash_jax.methods import METHODS, RECIPES, Classification, Method
from hybridhash_jax.methods.method import normalises_by_batch
from hybridhash_jax.preprocess import pixels, rand_augment
from hybridhash_jax.workdir import checkpoints, selection
from input_pipeline import datasets, sources
from input_pipeline.images import decode, transforms, unreadable
from input_pipeline.messages import counted
from input_pipeline.options import Option


def is_number(value: Any, kind: Any = int) -> bool:
    """Is it of this kind, and no bool?"""
    return isinstance(value, kind) and not isinstance(value, bool)


def _bits_problem(bits: Any) -> str | None:
    good = isinstance(bits, tuple) and bits and all(is_number(b) for b in bits)
    if not good or min(bits) < 1 or max(bits) > 1024 or len(set(bits)) < len(bits):
        return "give different code lengths from 1 to 1024, such as 32 or 16,32,64"
    return None


def compared_methods(config: Config) -> list[str]:
    """Those of comparison.methods; all hashing methods where none is named."""
    return _listed(config.comparison.methods) or list(_HASHING)


def _listed(given: Any) -> list[str]:
    """Names; a flag gives all of them as one text."""
    return [name.strip() for part in given for name in str(part).split(",")]


def _methods_problem(given: Any) -> str | None:
    names = _listed(given)
    unknown = [name for name in names if name not in _HASHING]
    if unknown:
        near = difflib.get_close_matches(unknown[0], _HASHING, n=2, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        return f"there is no method {unknown[0]!r}.{hint} Methods: {', '.join(_HASHING)}"
    return "give each method once" if len(set(names)) < len(names) else None


def _seeds_problem(seeds: Any) -> str | None:
    good = seeds and all(is_number(seed) and 0 <= seed < 2**63 for seed in seeds)
    if not good or len(set(seeds)) < len(seeds):
        return "give one whole number or several different ones, such as 0 or 0,1,2"
    return None


def _rates_problem(rates: Any) -> str | None:
    good = rates and all(is_number(rate, int | float) and 0 < rate < math.inf for rate in rates)
    if not good or len(set(rates)) < len(rates):
        return "give different learning rates above 0, such as 3e-4,1e-3,3e-3"
    return None


_HASHING = tuple(name for name, method in METHODS.items() if method.learns == "codes")
# Fields of the run itself.
_RUN = (
    Option("task", "what is learned", ("hash", "classify")),
    Option("seed", "of everything random in training", at_least=0, at_most=2**63 - 1),
    Option("bits", "code lengths", problem=_bits_problem),
    Option("batch_size", "images in a training batch", at_least=1),
    Option("num_epochs", "length of the training", at_least=1),
    Option(
        "log_every_steps", "most steps between two lines of the log", at_least=1, may_change=True
    ),
    Option("num_devices", "devices in use", at_least=1, may_change=True),
    accumulation.OPTION,
)
_EVALUATION = (
    Option("every_epochs", "epochs between two evaluations", at_least=1),
    Option("batch_size", "images in an evaluation batch", at_least=1, may_change=True),
    Option("top_k", "places that mAP counts", at_least=1),
    Option("validation_fraction", "share of training images held out", above=0, below=1),
    Option("report", "whether pages are drawn", (True, False), may_change=True),
    selection.OPTION,
)
# What is compared changes no run that is there already.
_COMPARISON = (
    Option("methods", "what is compared", may_change=True, problem=_methods_problem),
    Option("seeds", "of the runs of each cell", may_change=True, problem=_seeds_problem),
    Option("rates", "learning rates that are tried", may_change=True, problem=_rates_problem),
    Option("trials", "most trials of a method", at_least=0, at_most=100, may_change=True),
)
_DATA = (
    *datasets.OPTIONS,
    *sources.OPTIONS,
    *decode.OPTIONS,
    *transforms.OPTIONS,
    *unreadable.OPTIONS,
    *pixels.OPTIONS,
)
OPTIONS: dict[str, tuple[Option, ...]] = {
    "": _RUN,
    "mesh.": mesh.OPTIONS,
    "model.": models.OPTIONS,
    "data.": _DATA,
    "features.": options.OPTIONS,
    "method.": (
        Option("name", "how codes are learned", _HASHING),
        Option("recipe", "how it is trained", RECIPES),
    ),
    **{f"{method.group}.": method.options for method in METHODS.values()},
    "pretraining.": (*Classification.options, *rand_augment.OPTIONS),
    "optimizer.": optimizer.OPTIONS,
    "evaluation.": _EVALUATION,
    "comparison.": _COMPARISON,
    "checkpoint.": checkpoints.OPTIONS,
}
MAY_CHANGE = {
    group + option.name
    for group, options in OPTIONS.items()
    for option in options
    if option.may_change
}


def check_batch(config: Config, method: Method) -> None:
    """Refuses a training batch, or its parts, of so few images that the method learns nothing."""
    # Pairs are of the whole batch, however it is computed; a batch norm sees one part of it.
    parts = config.accumulation_steps if normalises_by_batch(method.head) else 1
    if (images := config.batch_size // parts) < method.fewest_images:
        given = f"batch_size={config.batch_size}"
        given += f" in accumulation_steps={parts} parts" if parts > 1 else ""
        raise ConfigError(
            f"{given} shows {method.title} {counted(images, 'image')} at once, and it learns "
            f"nothing from fewer than {method.fewest_images}; give "
            f"--config.batch_size={method.fewest_images * parts} or more"
        )


def check_config(config: Config) -> None:
    """Refuses impossible values, all of them in one message.

    Raises:
      ConfigError: what was given, and what is accepted.
    """
    fields = dict(flat_fields(config))
    found = [
        option.problem_of(fields[group + option.name], group)
        for group, options in OPTIONS.items()
        for option in options
    ]
    problems = [problem for problem in found if problem]
    if fields["task"] == "classify" and fields["evaluation.selected_by"] == "query":
        problems.append(
            "evaluation.selected_by='query' is for hashing; accepted for task=classify: "
            "validation (the best top-1), last"
        )
    if fields["task"] == "classify" and fields["method.name"] != "hybridhash":
        problems.append(
            f"method.name={fields['method.name']!r} learns codes and task=classify learns classes; "
            "leave one of them out"
        )
    if fields["model.batch_norm"] == "batch" and (fields["mesh.fsdp"] or 1) > 1:
        problems.append(
            f"model.batch_norm='batch' with mesh.fsdp={fields['mesh.fsdp']}: its statistics are not "
            "taken where parameters are split; leave mesh.fsdp out, or use batch_norm='frozen'"
        )
    norm = METHODS[name].head if (name := fields["method.name"]) in METHODS else ""
    if normalises_by_batch(norm) and (fields["mesh.fsdp"] or 1) > 1:
        problems.append(
            f"method.name={name!r} has a head with batch norm, whose statistics are not taken where "
            f"parameters are split: leave mesh.fsdp={fields['mesh.fsdp']} out"
        )
    if problems:
        raise ConfigError("the configuration cannot be run:\n  " + "\n  ".join(problems))
