"""What values a configuration may have, collected from who uses them and checked at the start."""

from typing import Any

from hybridhash_jax import accumulation, models, optimizer
from hybridhash_jax.config_fields import Config, ConfigError, flat_fields
from hybridhash_jax.distributed import mesh
from hybridhash_jax.features import options
from hybridhash_jax.methods import METHODS, RECIPES, Classification
from hybridhash_jax.preprocess import pixels, rand_augment
from hybridhash_jax.workdir import checkpoints, selection
from input_pipeline import datasets, sources
from input_pipeline.images import decode, transforms, unreadable
from input_pipeline.options import Option


def _bits_problem(bits: Any) -> str | None:
    good = isinstance(bits, tuple) and bits and all(isinstance(b, int) for b in bits)
    if not good or min(bits) < 1 or max(bits) > 1024 or len(set(bits)) < len(bits):
        return "give different code lengths from 1 to 1024, such as 32 or 16,32,64"
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
    "checkpoint.": checkpoints.OPTIONS,
}
MAY_CHANGE = {
    group + option.name
    for group, options in OPTIONS.items()
    for option in options
    if option.may_change
}


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
    if norm.startswith("batch_norm") and (fields["mesh.fsdp"] or 1) > 1:
        problems.append(
            f"method.name={name!r} has a head with batch norm, whose statistics are not taken where "
            f"parameters are split: leave mesh.fsdp={fields['mesh.fsdp']} out"
        )
    if problems:
        raise ConfigError("the configuration cannot be run:\n  " + "\n  ".join(problems))
