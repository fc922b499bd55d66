"""The command line of a run: its flags, its help, and what is wrong with what was given.

Nothing here takes long to import: help and mistakes are answered before JAX is loaded.
"""

import contextlib
import difflib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_dict, config_flags

import configs
from hybridhash_jax.flag_errors import check_fields, did_you_mean, explain
from hybridhash_jax.workdir import names, saved_config
from hybridhash_jax.workdir.config import has_config, load_config
from input_pipeline.atomic_file import nearest_existing
from input_pipeline.messages import NO_HOME, print_help, show_any_letter

USAGE = """\
Trains and evaluates deep hashing networks.

  {program} --config=configs/digits.py --workdir=runs/digits
  {program} --config=configs/cifar10.py --workdir=runs/cifar10 --config.bits=16,32,48,64
  {program} --config=configs/pretrain_imagenet.py --workdir=runs/pretrained (its backbone)
  {program} --workdir=runs/digits (goes on with the run that is there)
  {program} --mode=tune_batch --config=configs/cifar10.py --workdir=runs/cifar10
  {program} --mode=evaluate --workdir=runs/digits
  {program} --mode=compare --config=configs/compare_cifar10.py --workdir=runs/compared
  {program} --mode=evaluate --codes=CODES --workdir=runs/codes

Every field of configs/default.py can be given: --config.optimizer.learning_rate=1e-4
The same command again goes on where a run was stopped, by whatever. Ctrl-C and SIGTERM save first
and exit with 130 and 143; 134: another process was lost; 1 is an error, which is explained; 0 is a
finished run. On a TPU pod, under SLURM or Open MPI processes find each other; see docs/pods.md.
"""

CONFIG = "The configuration: a file, or the name of one of configs/, such as digits."
config_flags.DEFINE_config_file("config", None, CONFIG)
flags.DEFINE_string("workdir", None, "Where the run is kept: checkpoints, logs, results.")
MODES = (
    "evaluate: only measure a checkpoint of the workdir, or, without one, config.init.weights. "
    "tune_batch: find the largest batch. "
    "compare: train every method of comparison.methods at every length with every seed, and make "
    "one table; the same command in several processes shares the work."
)
flags.DEFINE_enum("mode", "train", ["train", "evaluate", "tune_batch", "compare"], MODES)
WHICH = "For --mode=evaluate: selected, latest, or a checkpoint's step."
flags.DEFINE_string("checkpoint", "selected", WHICH)
OUTPUT = "For --mode=evaluate: where results go; default: the workdir's folder evaluation."
flags.DEFINE_string("output", None, OUTPUT)
CODES = (
    "For --mode=evaluate: measure these codes instead. A folder with query.npz and database.npz, "
    "the two files, or four .npy files (codes and labels of queries, of the database), with commas."
)
flags.DEFINE_string("codes", None, CODES)
PLACES = "For --codes: places of mAP; default: what the files say, else all."
flags.DEFINE_integer("top_k", None, PLACES)
KEPT = "Keeps compiled programs: a folder, or off; default: beside the workdir."
flags.DEFINE_string("compilation_cache", None, KEPT)
flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0, for several processes.")
flags.DEFINE_integer("num_processes", None, "How many processes there are.")
flags.DEFINE_integer("process_id", None, "This process's number, from 0.")
flags.DEFINE_integer("initialization_timeout", 300, "Seconds to wait for the other processes.")


def main(arguments: Sequence[str], program: str = "hybridhash train") -> NoReturn:
    """Runs what the flags ask for, and exits with the codes of `USAGE`.

    `arguments` come after the program, which the help calls `program`.
    """
    show_any_letter()
    app.run(_run_mode, argv=[program, *arguments], flags_parser=_make_parser(program))


def _run_mode(_: list[str]) -> None:
    try:  # takes seconds, so not before the flags are right
        importlib.import_module("jax")
    except ValueError as error:  # of a variable that JAX reads when it is imported
        given = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("JAX_")]
        if not given:  # it is not installed as it should be
            raise
        print(
            f"error: JAX cannot use the environment ({', '.join(given)}): {error}. Leave out the "
            "variable that is wrong, or give it another value",
            file=sys.stderr,
        )
        sys.exit(1)
    from hybridhash_jax import modes

    modes.run_mode()


def _make_parser(program: str) -> Callable[[Sequence[str]], list[str]]:
    def parse(arguments: Sequence[str]) -> list[str]:
        if any(argument in ("--help", "-h", "--helpfull") for argument in arguments[1:]):
            of_flags = flags.FLAGS.module_help(__name__).replace(__name__, "Flags", 1).lstrip()
            print_help(f"{USAGE.format(program=program)}\n{of_flags}")
            sys.exit(0)
        absl_logging.set_verbosity(absl_logging.ERROR)  # what is wrong with a file is told below
        try:
            found = _find_config(arguments)
            with _as_command_line(found):  # where ml_collections reads the fields
                rest = flags.FLAGS(found)
            _check_flags(rest)
            return rest
        except (
            flags.Error, AttributeError, KeyError, OSError, SyntaxError, TypeError, ValueError,
            config_dict.RequiredValueError,
        ) as error:  # fmt: skip
            print(f"error: {explain(error, arguments)}", file=sys.stderr)
            sys.exit(1)

    return parse


@contextlib.contextmanager
def _as_command_line(arguments: list[str]) -> Iterator[None]:
    before, sys.argv = sys.argv, arguments
    try:
        yield
    finally:
        sys.argv = before


def _find_config(arguments: Sequence[str]) -> list[str]:
    """The arguments, first --config with a file: for NAME one of `configs`, else the workdir's own.

    First, since ml_collections takes no field before it knows the file.
    """
    found, workdir, config = list(arguments), None, ""
    for place, argument in enumerate(arguments):
        flag, equals, value = argument.lstrip("-").partition("=")
        if flag not in ("config", "workdir") or not argument.startswith("-"):
            continue
        own = [argument] if equals else [*arguments[place : place + 2]]
        value = value if equals else "".join(own[1:])
        if flag == "workdir":
            workdir = value
        elif value:
            config = f"--config={_config_path(value)}"
            start = found.index(argument)
            del found[start : start + len(own)]
    measures_codes = any(argument.partition("=")[0] in ("-codes", "--codes") for argument in found)
    if not (config or measures_codes) and workdir and has_config(Path(workdir).expanduser()):
        config = f"--config={_saved(Path(workdir))}"
    return [*found[:1], config, *found[1:]] if config else found


def _saved(place: Path) -> str:
    load_config(place.expanduser())  # its message is lost where ml_collections calls it
    return f"{saved_config.__file__}:{place.expanduser().absolute()}"


def _config_path(given: str) -> str:
    if Path(given).is_dir() or given.endswith(".json"):
        return _saved(Path(given))
    if Path(given).is_file() or Path(given.partition(":")[0]).is_file():
        return given
    folder = Path(configs.__file__).parent
    name = given.removeprefix("configs/").removesuffix(".py")
    shipped = {path.stem: path for path in folder.glob("*.py")}
    known = sorted(shipped.keys() - {"__init__", "recipes"})
    if name in known:
        return str(shipped[name])
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    raise flags.IllegalFlagValueError(
        f"--config={given}: there is no such file, and no such configuration in configs/."
        f"{did_you_mean(near)} Known: {', '.join(known)}"
    )


def _check_flags(rest: Sequence[str]) -> None:
    values = flags.FLAGS
    if len(rest) > 1:
        raise flags.IllegalFlagValueError(f"{rest[1]!r} is no flag; see --help")
    if not values.workdir:
        given = "is missing" if values.workdir is None else "is empty (an unset variable?)"
        raise flags.IllegalFlagValueError(f"--workdir=FOLDER {given}; see --help")
    for name in ("workdir", "output", "codes", "compilation_cache"):
        _check_path(name, values[name].value)
    place, evaluates = Path(values.workdir).expanduser(), values.mode == "evaluate"
    _check_workdir(place, writes=not evaluates)
    _check_codes(values)
    if values.config is None and values.codes is None and (place / names.ALL_CHOICES).exists():
        how = "go on with it by --mode=compare and the --config and fields that it was begun with"
        if evaluates:
            how = f"evaluate one of its runs, such as {place / names.COMPARED}/METHOD/seed0/32bits"
        raise flags.IllegalFlagValueError(f"--workdir={values.workdir} holds a comparison; {how}")
    if values.config is None and values["config"].present:
        raise flags.IllegalFlagValueError(
            f"{config_flags.get_config_filename(values['config'])} cannot be used: its get_config() "
            "gives nothing; does it end with `return config`?"
        )
    if values.config is None and not evaluates:
        raise flags.IllegalFlagValueError(
            "--config=FILE is missing, for example --config=configs/digits.py, and "
            f"--workdir={values.workdir} has no {names.CONFIG} to go on with; see --help"
        )
    if values.config is not None:
        values.config.to_dict()  # raises the error of a file that could not be read
        file = config_flags.get_config_filename(values["config"])
        place = file.removeprefix(f"{saved_config.__file__}:")
        # What a workdir's run was told is not judged again: it goes on as it began.
        if place == file or place.endswith(".json"):
            check_fields(values.config, place)


def _check_path(name: str, given: str | None) -> None:
    """Refuses what no path of a file system can be here."""
    if given is None:
        return
    if "://" in given:
        raise flags.IllegalFlagValueError(
            f"--{name}={given} is no folder of a file system; mount the bucket (for "
            "example with gcsfuse) and give the folder, see docs/pods.md"
        )
    try:
        Path(given).expanduser()
    except RuntimeError as error:
        raise flags.IllegalFlagValueError(
            f"--{name}={given}: {NO_HOME}; give the whole path"
        ) from error
    try:
        given.encode()
    except UnicodeEncodeError as error:
        raise flags.IllegalFlagValueError(
            f"--{name}={given!r} is no UTF-8, which file names must be here; rename the folder"
        ) from error


def _check_workdir(workdir: Path, *, writes: bool) -> None:
    """Refuses a workdir that is no folder, or cannot be made or written to."""
    there = nearest_existing(workdir)
    if not there.is_dir():
        raise flags.IllegalFlagValueError(f"--workdir={workdir}: {there} is a file; give a folder")
    if writes and not os.access(there, os.W_OK | os.X_OK):
        raise flags.IllegalFlagValueError(
            f"--workdir={workdir}: {there} cannot be written to; give a folder that can"
        )


def _check_codes(values: flags.FlagValues) -> None:
    """Refuses flags that would be ignored."""
    if values.codes is not None and values.mode != "evaluate":
        raise flags.IllegalFlagValueError("--codes needs --mode=evaluate; see --help")
    if values.codes is not None and values.config is not None:
        raise flags.IllegalFlagValueError(
            "--codes are measured without a network: leave --config out (--top_k is the cut-off)"
        )
    if values.codes is not None and values["checkpoint"].present:
        raise flags.IllegalFlagValueError("--checkpoint is of a run; leave it out with --codes")
    if values.top_k is not None and values.top_k < 1:
        raise flags.IllegalFlagValueError(
            f"--top_k={values.top_k}; accepted: 1 or more; leave it out for the whole database"
        )
    if values["checkpoint"].present and values.mode != "evaluate":
        raise flags.IllegalFlagValueError(
            "--checkpoint needs --mode=evaluate, and training goes on from the newest; leave it out"
        )
    if values.output is not None and values.mode != "evaluate":
        raise flags.IllegalFlagValueError("--output needs --mode=evaluate; see --help")
    if values.codes is None and values.top_k is not None:
        raise flags.IllegalFlagValueError(
            "--top_k is for --codes; otherwise give --config.evaluation.top_k"
        )
