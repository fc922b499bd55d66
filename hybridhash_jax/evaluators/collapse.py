"""What is said of codes that have collapsed."""

from collections.abc import Mapping, Sequence
from typing import Any

from hybridhash_jax import metrics
from hybridhash_jax.config_fields import Config
from hybridhash_jax.configured import create_method
from hybridhash_jax.methods import METHODS
from hybridhash_jax.methods.bank_pairs import BankMethod
from input_pipeline.messages import counted


def bank_alone(config: Config) -> str | None:
    """The field by which a network from random parameters learns from the memory bank alone."""
    if config.task != "hash":
        return None
    method = create_method(config)
    if not (isinstance(method, BankMethod) and method.uses_bank and method.from_scratch):
        return None
    if method.weight_of_batch:
        return None
    return f"{method.group}.batch_weight"


def warning_at_start(config: Config) -> str | None:
    """Says that a run is likely to collapse, before it does; None where nothing is known of that."""
    if (field := bank_alone(config)) is None:
        return None
    return (
        "codes of a network that starts at random are likely to collapse against the memory bank "
        f"alone ({field}=0, as published; docs/bank.md). Leave {field} out, or give "
        "--config.init.weights"
    )


def advice_for(config: Config) -> list[str]:
    """What may help against a collapse, of what is not set already."""
    if METHODS[config.method.name].is_fitted:
        return ["features that tell images apart", "another --config.method.name"]
    advice = ["a lower --config.optimizer.learning_rate"]
    if field := bank_alone(config):
        advice.insert(0, f"--config.{field}=1")
    elif config.method.name == "hybridhash" and config.loss.pairs != "batch":
        advice.insert(0, "--config.loss.pairs=batch")
    if not config.optimizer.warmup_epochs:
        advice.append("a warm-up (--config.optimizer.warmup_epochs)")
    if config.init.weights is None and config.model.initializer != "fan_in":
        advice.append("--config.model.initializer=fan_in")
    return advice


def collapse_warning(record: Mapping[str, Any], bits: int, advice: Sequence[str]) -> str | None:
    """Says in plain words that the codes have collapsed, and what to try; None if they have not.

    Where there are more classes than codes of so many `bits`, it says that, too.
    """
    found, classes = [], record["database_classes"]
    if 2**bits < classes:
        found.append(
            f"codes of {counted(bits, 'bit')} are too short: there are {2**bits} of them for "
            f"{classes:,} classes. Give more --config.bits."
        )
        classes = record["distinct_codes"]  # that there are fewer is said
    symptoms = metrics.collapse_symptoms(
        bits,
        classes,
        constant_bits=record["constant_bits"],
        distinct_codes=record["distinct_codes"],
        largest_share=record["largest_share"],
    )
    if symptoms:
        found.append(
            f"the codes have collapsed at epoch {record['epoch']:g}: {'; '.join(symptoms)}. Such "
            f"codes cannot tell images apart. Try {' or '.join(advice)}."
        )
    return " And ".join(found) or None
