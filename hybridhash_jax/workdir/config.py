"""The configuration of a workdir, and whether it is that of the run that is asked for."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs import default
from hybridhash_jax.config_fields import GONE, RENAMED, Config, ConfigError, flat_fields, to_json
from hybridhash_jax.workdir import names
from input_pipeline.atomic_file import write_atomically

# Groups of methods with a memory bank, and what they say where they use it. From random parameters,
# runs from before there was their `batch_weight` learned from the bank alone, and go on so.
_WITH_BANK = {"loss": ("pairs", "bank"), "dsh": ("variant", "deephash"), "dpsh": ("", None)}


def save_config(workdir: Path, config: Config) -> None:
    """Writes the configuration in one move; the folder is made if it is not there."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_atomically(workdir / names.CONFIG, to_json(config).encode())


def has_config(workdir: Path) -> bool:
    """Does the workdir hold a run, or a sweep over code lengths?"""
    return (workdir / names.CONFIG).is_file() or bool(_lengths(workdir))


def load_config(place: Path) -> Config:
    """The configuration that a workdir was trained with; fields that came later at their defaults.

    Args:
      place: a workdir, of one code length or several, or a config.json.

    Raises:
      ConfigError: there is none that can be read.
    """
    config = default.get_config()
    lengths = [] if place.suffix == ".json" else _lengths(place)
    try:
        saved = saved_fields(lengths[0] if lengths else place)
    except ConfigError as error:
        raise ConfigError(
            f"{error}. Give a workdir that --mode=train wrote, or its {names.CONFIG}."
        ) from None
    if lengths:
        saved["bits"] = [int(folder.name.removesuffix("bits")) for folder in lengths]
    with config.ignore_type():  # of earlier versions; the fields keep theirs for what a flag gives
        config.update(_with_tuples(saved))
    return config.lock()


def _lengths(workdir: Path) -> list[Path]:
    """The folders of a sweep over code lengths, the shortest first."""
    folders = [path.parent for path in workdir.glob(f"*bits/{names.CONFIG}")]
    numbered = [folder for folder in folders if folder.name.removesuffix("bits").isdecimal()]
    return sorted(numbered, key=lambda folder: int(folder.name.removesuffix("bits")))


def read_config(place: Path) -> dict[str, Any]:
    """What the config.json of a workdir says, word for word; `place` may be the file itself.

    Raises:
      ConfigError: it cannot be read, or is of another program.
    """
    path = place if place.suffix == ".json" else place / names.CONFIG
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise ConfigError(f"{path} cannot be read ({reason})") from None
    groups = (name for name, value in default.get_config().items() if isinstance(value, ConfigDict))
    if (
        not isinstance(content, dict)
        or not content.keys() & {"bits", "model", "data"}
        or not all(isinstance(content.get(name, {}), dict) for name in groups)
    ):
        raise ConfigError(f"{path} is no configuration of this program")
    return content


def saved_fields(workdir: Path) -> dict[str, Any]:
    """What config.json says, as nested dictionaries with the names of today.

    A ConfigError if it cannot be read, or asks for what is no longer there.
    """
    fields: dict[str, Any] = {}
    for name, value in flat_fields(read_config(workdir)):
        if name in GONE:
            if GONE[name] not in (None, value):
                raise ConfigError(
                    f"{workdir / names.CONFIG} has {name}={value!r}, which this version no longer has; go on with "
                    "the version that trained it, or start again"
                )
            continue
        *groups, last = RENAMED.get(name, name).split(".")
        place = fields
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    for group, (name, value) in _WITH_BANK.items():
        own = fields.get(group, {})
        if fields.get("init", {}).get("weights") is None and own.get(name) in (value, None):
            own.setdefault("batch_weight", 0.0)
    return fields


def folder_of_length(config: Config, bits: int, workdir: Path) -> Path:
    """Where one code length lives: `workdir` itself; one of several in `workdir/16bits`."""
    return workdir if len(config.bits) == 1 else workdir / f"{bits}bits"


def config_of_length(config: Config, bits: int) -> Config:
    """The configuration as if `bits` were its only code length."""
    own = ConfigDict(config.to_dict())
    own.bits = (bits,)
    return own


def check_one_length(config: Config, workdir: Path) -> None:
    """Refuses a workdir of several code lengths, naming those of each, with a ConfigError."""
    if config.task == "hash" and len(config.bits) > 1:
        folders = ", ".join(f"{workdir}/{bits}bits" for bits in config.bits)
        raise ConfigError(f"evaluate one code length at a time: --workdir one of {folders}")


def check_kind(config: Config, workdir: Path) -> None:
    """Refuses one length and several in a workdir: their results.json would be the same file."""
    sweep = [folder.name for folder in _lengths(workdir)]
    single = (workdir / names.CONFIG).exists()
    if (len(config.bits) > 1 and single) or (len(config.bits) == 1 and sweep):
        there = "a run of one code length" if single else f"runs of {', '.join(sweep)}"
        raise ConfigError(
            f"{workdir} holds {there}; choose another --workdir for bits={config.bits}"
        )


def check_occupied(config: Config, workdir: Path, may_change: Collection[str]) -> None:
    """Lets an empty workdir pass, or one that holds this very run; see `check_same_run`."""
    if (workdir / names.CONFIG).exists():
        check_same_run(config, workdir, may_change)
        return
    ours = (names.CHECKPOINTS, names.LOG, names.RESULTS, names.REPORT, names.PAGE, names.CODES)
    if found := [name for name in ours if (workdir / name).exists()]:
        raise ConfigError(
            f"{workdir} holds {', '.join(found)} but no {names.CONFIG} that says of which run; choose "
            "another --workdir, so that nothing is overwritten"
        )


def check_same_run(config: Config, workdir: Path, may_change: Collection[str]) -> None:
    """Refuses a workdir whose configuration differs in a way that changes results.

    `may_change` are those of `config_rules.MAY_CHANGE`. The ConfigError names every other field
    that differs, with both values.
    """
    different, saved, given = _differences(config, workdir, may_change)
    if different:
        raise ConfigError(
            f"{workdir} holds a run with another configuration:\n  "
            + "\n  ".join(different)
            + "\nChoose another --workdir, or give the same values to go on with that run."
            + _how_to_train_longer(workdir, different, saved, given)
        )


def differences(config: Config, workdir: Path, may_change: Collection[str]) -> list[str]:
    """Fields in which a workdir's configuration differs in a way that changes results, in words.

    Fields that came after it was saved count as saved at their defaults, which change nothing. A
    ConfigError if it cannot be read.
    """
    return _differences(config, workdir, may_change)[0]


def _differences(
    config: Config, workdir: Path, may_change: Collection[str]
) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
    """See `differences`; and the fields that were saved, and those that are given."""
    try:
        saved = dict(flat_fields(saved_fields(workdir)))
    except ConfigError as error:
        raise ConfigError(
            f"{error}; it says what this workdir's run is. Restore it, or choose another workdir."
        ) from None
    saved = dict(flat_fields(json.loads(to_json(default.get_config())))) | saved
    given = dict(flat_fields(json.loads(to_json(config))))
    groups = _groups_of_other_methods(given) if saved["task"] == given["task"] else []
    if given["init.weights"] is None and saved["init.weights"] is None:
        groups.append("init.")
    fields = _unused_data_fields(saved, given)
    different = [
        f"{name}: {saved.get(name)!r} there, {given.get(name)!r} here"
        for name in sorted(saved.keys() | given.keys())
        if saved.get(name) != given.get(name)
        and name not in may_change
        and name not in fields
        and not name.startswith(tuple(groups))
    ]
    return different, saved, given


def _how_to_train_longer(
    workdir: Path, different: Collection[str], saved: dict[str, Any], given: dict[str, Any]
) -> str:
    longer = (given["num_epochs"] or 0) > (saved["num_epochs"] or 0)
    if len(different) > 1 or not longer:
        return ""
    return (
        " The length of a run decides its learning rates, so it cannot be changed: to train "
        f"longer, start a new run from this one with --config.init.weights={workdir}."
    )


def _groups_of_other_methods(fields: dict[str, Any]) -> list[str]:
    """The options that this run does not use."""
    from hybridhash_jax.methods import METHODS  # a second, which flag errors need not wait

    own = "classification" if fields["task"] == "classify" else fields["method.name"]
    return [f"{method.group}." for name, method in METHODS.items() if name != own]


def _unused_data_fields(saved: dict[str, Any], given: dict[str, Any]) -> list[str]:
    from input_pipeline.datasets import unused_fields  # not for flag errors either

    if saved["data.name"] != given["data.name"]:
        return []
    return [f"data.{name}" for name in unused_fields(given["data.name"], given["data.source"])]


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_tuples(entry) for name, entry in value.items()}
    return tuple(value) if isinstance(value, list) else value
