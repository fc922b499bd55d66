"""What is said of codes that have collapsed."""

from collections.abc import Mapping, Sequence
from typing import Any

from hybridhash_jax import metrics
from hybridhash_jax.config_fields import Config


def is_bank_alone(config: Config) -> bool:
    """Does a network that starts at random learn against nothing but the memory bank?"""
    is_bank = config.method.name == "hybridhash" and config.loss.pairs == "bank"
    is_hashed = config.task == "hash" and config.init.weights is None
    return is_bank and is_hashed and config.loss.batch_weight == 0


def warning_at_start(config: Config) -> str | None:
    """Says that a run is likely to collapse, before it does; None where nothing is known of that."""
    if not is_bank_alone(config):
        return None
    return (
        "from random parameters, codes are likely to collapse against the memory bank alone "
        "(loss.batch_weight=0, as published, which starts from trained ones; docs/bank.md). Leave "
        "loss.batch_weight out, or give --config.init.weights"
    )


def advice_for(config: Config) -> list[str]:
    """What may help against a collapse, of what is not set already."""
    advice = ["a lower --config.optimizer.learning_rate"]
    if is_bank_alone(config):
        advice.insert(0, "--config.loss.batch_weight=1")
    elif config.method.name == "hybridhash" and config.loss.pairs != "batch":
        advice.insert(0, "--config.loss.pairs=batch")
    if not config.optimizer.warmup_epochs:
        advice.append("a warm-up (--config.optimizer.warmup_epochs)")
    if config.init.weights is None and config.model.initializer != "fan_in":
        advice.append("--config.model.initializer=fan_in")
    return advice


def collapse_warning(
    record: Mapping[str, Any], bits: int, num_classes: int, advice: Sequence[str]
) -> str | None:
    """Says in plain words that the codes have collapsed, and what to try; None if they have not."""
    symptoms = metrics.collapse_symptoms(
        bits,
        num_classes,
        constant_bits=record["constant_bits"],
        distinct_codes=record["distinct_codes"],
        largest_share=record["largest_share"],
    )
    if not symptoms:
        return None
    return (
        f"the codes have collapsed at epoch {record['epoch']:g}: {'; '.join(symptoms)}. Such codes "
        f"cannot tell images apart. Try {' or '.join(advice)}."
    )
