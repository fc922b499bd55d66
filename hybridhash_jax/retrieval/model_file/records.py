"""What is recorded of an encoder's training, for its model card; what is not is None."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybridhash_jax.pretrained.files.packages import PACKAGES
from hybridhash_jax.retrieval.index.records import Model
from hybridhash_jax.workdir import names
from hybridhash_jax.workdir.config import load_config
from hybridhash_jax.workdir.init_note import load_init_note


@dataclasses.dataclass(frozen=True)
class Record:
    """Of one encoder.

    Attributes:
      learned: how the codes came about, a sentence.
      weights: what the network started from, a sentence.
      licence: of these weights, a sentence.
      network: its name.
      seed: of the training.
      labels: did it learn from labels, so that there is a run with data, seed and mAP?
      entry: the run's entry of results.json; empty where there is none.
      measured: the evaluation of this very checkpoint; None where there is none.
    """

    learned: str
    weights: str
    licence: str
    network: str | None
    labels: bool = True
    seed: int | None = None
    entry: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    measured: Mapping[str, Any] | None = None


def record_of(model: Model) -> Record:
    """What the run or the index that `model` names has kept."""
    source = model.source
    if source["kind"] == "workdir":
        return _of_run(Path(source["workdir"]), source["checkpoint"])
    return Record(
        learned=f"ITQ, fitted to the features of {source['images']:,} images without labels",
        weights=source["weights"],
        licence=_licence(source["weights"]),
        network=source["weights"],
        labels=False,
    )


def _of_run(workdir: Path, step: int) -> Record:
    config = load_config(workdir)
    entries = _results(workdir / names.RESULTS)
    found = [one for entry in entries for one in entry.get("evaluations", ())]
    for folder in (names.EVALUATION, f"{names.EVALUATION}-{step}"):  # of --mode=evaluate
        found += _results(workdir / folder / names.RESULTS)
    measured = next((one for one in found if one.get("step") == step), None)
    entry = next(iter(entries), measured or {})
    weights = config.init.weights
    return Record(
        learned=f"{config.method.name}, {config.num_epochs} epochs, checkpoint {step}",
        weights=load_init_note(workdir) or weights or "random numbers",
        licence=_licence(weights),
        network=entry.get("variant"),
        seed=config.seed,
        entry=entry,
        measured=measured,
    )


def _results(path: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return []
    return [one for one in content if isinstance(one, dict)] if isinstance(content, list) else []


def _licence(weights: str | None) -> str:
    if weights is None:
        return "none, for training began with random numbers"
    if weights in PACKAGES:
        return f"Apache-2.0, as the package {PACKAGES[weights]} says"
    return f"not recorded; it is that of {weights}"
