"""The configuration of a workdir, and whether it is that of the run that is asked for."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs import default
from hybridhash_jax.config_fields import GONE, RENAMED, Config, ConfigError, flat_fields, to_json
from hybridhash_jax.methods import METHODS
from hybridhash_jax.workdir import names
from input_pipeline.atomic_file import write_atomically


def save_config(workdir: Path, config: Config) -> None:
    """Writes the configuration in one move; the folder is made if it is not there."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_atomically(workdir / names.CONFIG, to_json(config).encode())


def load_config(workdir: Path) -> Config:
    """The configuration that a workdir was trained with; fields that came later at their defaults.

    A ConfigError if there is none that can be read.
    """
    config = default.get_config()
    try:
        saved = saved_fields(workdir)
    except ConfigError as error:
        raise ConfigError(
            f"{error}. --mode=evaluate needs a workdir that --mode=train wrote (for a sweep over "
            "lengths, one of its subfolders such as 32bits)."
        ) from None
    values = _merged(config.to_dict(), saved)
    return ConfigDict(_with_tuples(values)).lock()


def read_config(workdir: Path) -> dict[str, Any]:
    """What config.json says, word for word; a ConfigError if it cannot be read."""
    path = workdir / names.CONFIG
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read ({error})") from None


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
    sweep = sorted(path.parent.name for path in workdir.glob(f"*bits/{names.CONFIG}"))
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
    elif any((workdir / name).exists() for name in (names.CHECKPOINTS, names.LOG)):
        raise ConfigError(
            f"{workdir} holds parts of a run but no {names.CONFIG} that says which; choose another "
            "workdir"
        )


def check_same_run(config: Config, workdir: Path, may_change: Collection[str]) -> None:
    """Refuses a workdir whose configuration differs in a way that changes results.

    Fields that came after it was saved count as saved at their defaults, which change nothing;
    `may_change` are those of `config_rules.MAY_CHANGE`. The ConfigError names every other field
    that differs, with both values.
    """
    try:
        saved = dict(flat_fields(saved_fields(workdir)))
    except ConfigError as error:
        raise ConfigError(
            f"{error}; it says what this workdir's run is. Restore it, or choose another workdir."
        ) from None
    saved = dict(flat_fields(json.loads(to_json(default.get_config())))) | saved
    given = dict(flat_fields(json.loads(to_json(config))))
    unused = _groups_of_other_methods(given) if saved["task"] == given["task"] else ()
    different = [
        f"{name}: {saved.get(name)!r} there, {given.get(name)!r} here"
        for name in sorted(saved.keys() | given.keys())
        if saved.get(name) != given.get(name)
        and name not in may_change
        and not name.startswith(tuple(unused))
    ]
    if different:
        raise ConfigError(
            f"{workdir} holds a run with another configuration:\n  "
            + "\n  ".join(different)
            + "\nChoose another --workdir, or give the same values to go on with that run."
        )


def _groups_of_other_methods(fields: dict[str, Any]) -> list[str]:
    """The options that this run does not use."""
    own = "classification" if fields["task"] == "classify" else fields["method.name"]
    return [f"{method.group}." for name, method in METHODS.items() if name != own]


def _merged(defaults: Any, saved: Any) -> Any:
    if not (isinstance(defaults, dict) and isinstance(saved, dict)):
        return saved
    return defaults | {name: _merged(defaults.get(name), value) for name, value in saved.items()}


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_tuples(entry) for name, entry in value.items()}
    return tuple(value) if isinstance(value, list) else value
