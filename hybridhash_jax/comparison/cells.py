"""What the runs of a comparison found: one number a cell, and whether all are of one kind."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hybridhash_jax.comparison.plan import Plan, Run, Shared, folder_of
from hybridhash_jax.comparison.tuning import Choice
from hybridhash_jax.config_fields import flat_fields
from hybridhash_jax.config_rules import MAY_CHANGE, is_number
from hybridhash_jax.methods import METHODS
from hybridhash_jax.workdir import names
from hybridhash_jax.workdir.config import check_occupied, saved_fields

Entries = Mapping[Run, Mapping[str, Any]]  # of results.json
# What must be the same in all runs: fields of results.json and of config.json.
_OF_RESULTS = (
    "dataset_checksum",
    "protocol",
    "split_seed",
    "top_k",
    "queries",
    "database",
    "variant",
)
_NUMBERS = ("map_expected", "queries", "database")  # that the table is made of
_OF_CONFIG = ("init.weights", "init.checkpoint", "model.image_size", "model.dtype", "data.resize")


class DisagreementError(ValueError):
    """Two runs of a comparison that cannot be compared; says which, and in what they differ."""


def finished_entry(
    shared: Shared, run: Run, choice: Choice, workdir: Path
) -> dict[str, Any] | None:
    """What a finished run found; None of one that is not, or not yet begun.

    A ConfigError if its workdir holds a run with another configuration.
    """
    folder = folder_of(workdir, run)
    if not folder.exists():
        return None
    check_occupied(shared.of_run(run, choice.values), folder, MAY_CHANGE)
    entry = read_entry(folder)
    if entry is not None:
        own = {"method": run.cell.method, "bits": run.cell.bits, "seed": run.seed}
        for name, value in own.items():
            if (there := entry.get(name)) != value:
                raise ValueError(
                    f"{folder / names.RESULTS} is of another run: its {name} is {there!r}, not "
                    f"{value!r}; remove it, and the run is finished again"
                )
    return entry


def read_entry(folder: Path) -> dict[str, Any] | None:
    """The entry of results.json of a run; None where there is none yet."""
    path = folder / names.RESULTS
    again = f"{path} cannot be read; remove it, and the run is finished again"
    try:
        entry = json.loads(path.read_text())[0]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError):
        raise ValueError(again) from None
    if not (
        isinstance(entry, dict)
        and all(is_number(entry.get(name), int | float) for name in _NUMBERS)
    ):
        raise ValueError(again)
    return entry


def read_report(folder: Path) -> dict[str, Any]:
    """What report.json of a finished run says; a ValueError where it cannot be read."""
    try:
        return json.loads((folder / names.REPORT).read_text())
    except (OSError, ValueError):
        raise ValueError(
            f"{folder / names.REPORT} cannot be read; remove {folder / names.RESULTS}, and the run "
            "is finished again"
        ) from None


class Agreement:
    """Sees to it that all runs have these images, the same backbone and the same features."""

    def __init__(self, workdir: Path, checksum: str):
        """`checksum` is that of the data set as it is now."""
        self.workdir, self.checksum = workdir, checksum
        self._first: dict[str, tuple[Run, Any]] = {}

    def check(self, run: Run, entry: Mapping[str, Any]) -> None:
        """Refuses a run that differs from an earlier one; a DisagreementError names both."""
        folder = folder_of(self.workdir, run)
        if (found := entry.get("dataset_checksum")) != self.checksum:
            raise DisagreementError(
                f"the images are not those of {folder}: dataset_checksum is {found!r} there and "
                f"{self.checksum!r} now. Put them back as they were, or choose another --workdir"
            )
        for name, value in _facts(run, entry, folder).items():
            there, known = self._first.setdefault(name, (run, value))
            if value != known:
                raise DisagreementError(
                    f"{folder_of(self.workdir, there)} and {folder} cannot be compared: {name} is "
                    f"{known!r} there and {value!r} here. Remove the run that is wrong, and start "
                    "the same command again"
                )


def _facts(run: Run, entry: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    config = dict(flat_fields(saved_fields(folder)))
    # A fitted method has kept features also where the others train the whole network, or flip.
    kind = "fitted" if METHODS[run.cell.method].is_fitted else "trained"
    return {
        **{name: entry.get(name) for name in _OF_RESULTS},
        **{name: config.get(name) for name in _OF_CONFIG},
        f"features ({kind} methods)": entry.get("features"),
    }


def collect_cells(
    shared: Shared, plan: Plan, entries: Entries, choices: Mapping[str, Choice], workdir: Path
) -> list[dict[str, Any]]:
    """The cells that have a finished run, as comparison.json keeps them."""
    cells: list[dict[str, Any]] = []
    for cell in plan.cells:
        runs = [Run(cell, seed) for seed in plan.seeds if Run(cell, seed) in entries]
        if not runs:
            continue
        found = [entries[run] for run in runs]
        method, choice = shared.method(cell.method), choices.get(cell.method, Choice())
        values = [entry["map_expected"] for entry in found]
        pages = [f"{run.folder}/{names.PAGE}" for run in runs]
        cells.append(
            {
                "method": cell.method,
                "title": method.title,
                "paper": method.paper,
                "bits": cell.bits,
                "supervision": "none" if method.is_fitted else method.supervision,
                "mean": statistics.fmean(values),
                "deviation": statistics.stdev(values) if len(values) > 1 else None,
                "values": {str(run.seed): value for run, value in zip(runs, values, strict=True)},
                "seeds_missing": len(plan.seeds) - len(runs),
                "train_seconds": _mean([_training_seconds(entry) for entry in found]),
                "encode_seconds": _mean([_encoding_seconds(entry) for entry in found]),
                "images_encoded": found[0]["queries"] + found[0]["database"],
                "chosen": dict(choice.values),
                "at_edge": list(choice.at_edge),
                "workdirs": [run.folder for run in runs],
                "report": next((page for page in pages if (workdir / page).exists()), None),
            }
        )
    return cells


def _training_seconds(entry: Mapping[str, Any]) -> float | None:
    """Of all steps at the speed that was measured, without compilation; None of a fitted method."""
    rate, images = entry["train_images_per_second"], entry.get("images_trained")
    return images / rate if rate and images else None


def _encoding_seconds(entry: Mapping[str, Any]) -> float | None:
    found = [x for x in entry["evaluations"] if x["epoch"] == entry["epoch"]]
    return found[-1].get("encode_seconds") if found else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.fmean(known) if known else None
