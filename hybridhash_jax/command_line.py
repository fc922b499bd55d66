"""Turns a user's mistake into one message instead of a traceback."""

import difflib
import functools
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from absl import flags

from hybridhash_jax.config_fields import flat_fields
from hybridhash_jax.distributed import processes
from hybridhash_jax.distributed.agreement import agree_at_start, check_shared, program_facts
from hybridhash_jax.runtime.interrupt import Interrupted
from hybridhash_jax.train import TrainingDivergedError
from hybridhash_jax.workdir.checkpoints import CheckpointError, committed_steps
from hybridhash_jax.workdir.names import CHECKPOINTS
from input_pipeline.errors import DataError

# Errors whose message is written for the user. A ValueError is one as well: every function here
# that takes a user's value explains what it accepts. Anything else is a fault of ours.
_EXPLAINED = (CheckpointError, TrainingDivergedError, DataError, OSError, ValueError)
_FROM = re.compile(r"^(--?config\.init)\.from\b")
# What may differ between the machines of one run.
_OF_THE_MACHINE = ("data.dir", "data.download", "data.num_workers")


def explained(main: Callable[[list[str]], None]) -> Callable[[list[str]], None]:
    """`main`, with expected errors printed without a traceback and the exit codes of its help."""

    @functools.wraps(main)
    def run(arguments: list[str]) -> None:
        try:
            main(arguments)
            processes.finish()
        except Interrupted as stop:
            _end(str(stop), stop.exit_code)
        except KeyboardInterrupt:
            _end("stopped at once; the last saved state is intact", 130)
        except Exception as error:
            # A bucket or a download that cannot be reached is another matter. JAX raises a bare
            # ValueError for some failures of gloo.
            of_jax = isinstance(error, RuntimeError) or type(error) is ValueError
            lost = of_jax and processes.is_lost_peer(error)
            if processes.are_several() and lost:
                _end(f"error: {_lost_peer(error)}", processes.LOST_EXIT_CODE)
            if isinstance(error, _EXPLAINED):
                _fail(str(error))
            if not processes.are_several():
                raise
            _end(traceback.format_exc(), 1)

    return run


def agree_on_run(workdir: Path) -> None:
    """Lets several processes compare what they were started with, before anything is loaded.

    Raises:
      DisagreementError: they differ, or do not see one workdir; names what, with the values and
        whose they are.
    """
    if not processes.are_several():
        return
    values = flags.FLAGS
    facts = program_facts() | {"--workdir": str(workdir)}
    facts |= {f"--{name}": str(values[name].value) for name in ("mode", "checkpoint", "codes")}
    facts |= {
        f"--config.{name}": str(value)
        for name, value in flat_fields(values.config or {})
        if name not in _OF_THE_MACHINE
    }
    facts |= {f"checkpoints in {folder}": str(steps) for folder, steps in _checkpoints(workdir)}
    agree_at_start(facts)
    check_shared(workdir)


def parse_flags(usage: str | None) -> Callable[[Sequence[str]], list[str]]:
    """A parser of the command line that explains misspelled fields and missing flags."""

    def parse(arguments: Sequence[str]) -> list[str]:
        if any(argument in ("--help", "-h", "--helpfull") for argument in arguments[1:]):
            print(usage)
            print(flags.FLAGS.main_module_help())
            sys.exit(0)
        # "from" is a word of Python, which ml_collections takes in brackets only; it reads sys.argv.
        sys.argv[1:] = [_FROM.sub(r"\1['from']", argument) for argument in sys.argv[1:]]
        try:
            rest = flags.FLAGS(list(sys.argv))
            _check_flags(rest)
            return rest
        except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
            _fail(_explain(error, arguments))
        except OSError as error:
            _fail(f"{error}\nThe configurations that come with the project are in configs/.")

    return parse


def _check_flags(rest: Sequence[str]) -> None:
    values = flags.FLAGS
    if len(rest) > 1:
        raise flags.IllegalFlagValueError(f"{rest[1]!r} is no flag; see --help")
    if values.workdir is None:
        raise flags.IllegalFlagValueError("--workdir=FOLDER is missing; see --help")
    if "://" in values.workdir:
        raise flags.IllegalFlagValueError(
            f"--workdir={values.workdir} is no folder of a file system; mount the bucket (for "
            "example with gcsfuse) and give the folder, see docs/pods.md"
        )
    if values.config is None and values.mode != "evaluate":
        raise flags.IllegalFlagValueError(
            "--config=FILE is missing, for example --config=configs/digits.py; see --help"
        )
    _check_codes(values)
    if values.config is not None:
        values.config.to_dict()  # raises the error of a file that could not be read


def _check_codes(values: flags.FlagValues) -> None:
    """Refuses flags that would be ignored."""
    if values.codes is not None and values.mode != "evaluate":
        raise flags.IllegalFlagValueError("--codes needs --mode=evaluate; see --help")
    if values.codes is not None and values.config is not None:
        raise flags.IllegalFlagValueError(
            "--codes are measured without a network: leave --config out (--top_k is the cut-off)"
        )
    if values.codes is None and values.top_k is not None:
        raise flags.IllegalFlagValueError(
            "--top_k is for --codes; otherwise give --config.evaluation.top_k"
        )


def _explain(error: Exception, arguments: Sequence[str]) -> str:
    """The message, and for an unknown field the nearest ones and all that exist."""
    message = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    as_typed = [argument.replace("['from']", ".from") for argument in arguments]
    given = re.findall(r"^--?config\.([\w.]+)", "\n".join(as_typed), re.MULTILINE)
    fields = _known_fields()
    unknown = [name for name in given if fields and name not in fields]
    if not unknown:
        return message
    name = unknown[0]
    near = difflib.get_close_matches(name, fields, n=3, cutoff=0.5)
    group = [field for field in fields if field.startswith(name.rpartition(".")[0] + ".")]
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"--config.{name}: there is no such field.{hint} Fields: {', '.join(group or fields)}"


def _known_fields() -> list[str]:
    from configs import default

    return [name for name, _ in flat_fields(default.get_config())]


def _checkpoints(workdir: Path) -> list[tuple[Path, list[int]]]:
    """The folders of checkpoints in a workdir, of one code length or several, with their steps."""
    folders = [workdir / CHECKPOINTS, *sorted(workdir.glob(f"*bits/{CHECKPOINTS}"))]
    found = [(folder, committed_steps(folder)) for folder in folders]
    return [(folder, steps) for folder, steps in found if steps]


def _lost_peer(error: Exception) -> str:
    workdir = Path(flags.FLAGS.workdir).expanduser()
    saved = [f"step {steps[-1]} in {folder}" for folder, steps in _checkpoints(workdir)]
    reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return (
        f"another process of this run has ended or cannot be reached ({reason}). Its own output "
        "says why. Start the same command on every process again: it goes on from the last "
        f"checkpoint, {', '.join(saved) or 'of which there is none yet'}"
    )


def _fail(message: str) -> NoReturn:
    _end(f"error: {message}", 1)


def _end(message: str, exit_code: int) -> NoReturn:
    print(message, file=sys.stderr)
    if processes.are_several():
        processes.leave(exit_code)
    sys.exit(exit_code)
