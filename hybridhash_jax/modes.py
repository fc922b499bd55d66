"""Runs the mode that the flags name, and turns expected errors into one message."""

import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import jax
from absl import flags
from absl import logging as absl_logging
from ml_collections import config_flags

from hybridhash_jax.batch_tuning import tune_batch
from hybridhash_jax.comparison.plan import Shared
from hybridhash_jax.comparison.work import compare
from hybridhash_jax.config_fields import Config, flat_fields
from hybridhash_jax.configured import create_method, with_recipe
from hybridhash_jax.distributed import processes
from hybridhash_jax.distributed.agreement import agree, check_shared, program_facts
from hybridhash_jax.evaluation_run import evaluate, evaluate_code_files
from hybridhash_jax.methods import METHODS
from hybridhash_jax.methods.bank_pairs import OF_BANKS, BankMethod
from hybridhash_jax.run import train
from hybridhash_jax.runtime import compilation_cache, console, host_memory
from hybridhash_jax.runtime.interrupt import Interrupted, StopRequest
from hybridhash_jax.train import TrainingDivergedError
from hybridhash_jax.workdir.checkpoints import CheckpointError, committed_steps
from hybridhash_jax.workdir.config import load_config
from hybridhash_jax.workdir.names import CHECKPOINTS
from input_pipeline import signals
from input_pipeline.errors import DataError
from input_pipeline.messages import HELD, in_words, is_of_home, is_out_of_memory

# Errors whose message is written for the user. A ValueError is one as well: every function here
# that takes a user's value explains what it accepts. Anything else is a fault of ours.
_EXPLAINED = (CheckpointError, TrainingDivergedError, DataError, OSError, ValueError)
_OUT_OF_MEMORY = (
    "out of memory. Training: give a smaller --config.batch_size, a --config.accumulation_steps of "
    "2 or more, --config.model.remat=layers, or a smaller --config.model.variant; "
    "--mode=tune_batch finds the largest batch that fits. Evaluation: give a smaller "
    f"--config.evaluation.batch_size. {HELD}. What was saved before is intact"
)
# What may differ between the machines of one run.
_OF_THE_MACHINE = ("data.dir", "data.download", "data.num_workers")


def run_mode() -> None:
    """Runs the mode that the flags name.

    Expected errors are printed without a traceback and end with the exit codes of the help.
    """
    try:
        _start_mode()
        processes.finish()
    except Interrupted as stop:
        _end(str(stop), stop.exit_code)
    except Exception as error:
        if is_out_of_memory(error):
            _end(f"error: {_OUT_OF_MEMORY}", 1)
        # A bucket or a download that cannot be reached is another matter. JAX raises a bare
        # ValueError for some failures of gloo.
        of_jax = isinstance(error, RuntimeError) or type(error) is ValueError
        lost = of_jax and processes.is_lost_peer(error)
        if processes.are_several() and lost:
            _end(f"error: {_lost_peer(error)}", processes.LOST_EXIT_CODE)
        if isinstance(error, _EXPLAINED) or is_of_home(error):
            _end(f"error: {in_words(error)}", 1)
        if not processes.are_several():
            raise
        _end(traceback.format_exc(), 1)


def _start_mode() -> None:
    given = flags.FLAGS
    absl_logging.set_verbosity(absl_logging.ERROR)  # Orbax reports every file at INFO
    host_memory.compute_on_calling_thread()
    jax.config.update("jax_enable_x64", False)  # a run computes what its configuration says
    signals.listen(processes.end_by_signal)
    processes.start(
        given.coordinator_address,
        given.num_processes,
        given.process_id,
        initialization_timeout=given.initialization_timeout,
    )
    if given.codes is not None and not processes.are_several():
        jax.config.update("jax_platforms", "cpu")  # all of it is computed on the host
    _find_devices()
    console.set_up(quiet=jax.process_index() > 0)
    workdir = Path(given.workdir).expanduser()
    compilation_cache.set_up(given.compilation_cache, workdir)
    _agree_on_run(workdir)
    output = Path(given.output).expanduser() if given.output else None
    config = given.config
    fields = config_flags.get_override_values(given["config"]) if config is not None else {}
    if given.mode == "compare":
        stop = StopRequest(end=processes.end_by_signal)
        compare(Shared(config, frozenset(fields)), workdir, stop)
        return
    if config is not None:
        config = with_recipe(config, fields)
        for sentence in unused_options(config, fields):
            console.logger.warning(sentence)
    if given.mode == "train":
        train(config, workdir, StopRequest(end=processes.end_by_signal))
    elif given.mode == "tune_batch":
        tune_batch(config, workdir)
    elif given.codes is not None:
        evaluate_code_files(given.codes, workdir, given.top_k, output)
    else:
        evaluate(config or load_config(workdir), workdir, given.checkpoint, output)


def unused_options(config: Config, fields: Iterable[str]) -> Iterator[str]:
    """What is said of given fields that are another method's or mode's, or of a bank not there."""
    groups = {method.group: name for name, method in METHODS.items()}
    groups |= {"pretraining": "task=classify", "comparison": "--mode=compare"}
    name = "task=classify" if config.task == "classify" else config.method.name
    # An unknown method is told later, with those that there are.
    method = create_method(config) if name in METHODS else None
    without_bank = isinstance(method, BankMethod) and not method.uses_bank
    for field in fields:
        group, _, last = field.partition(".")
        if (whose := groups.get(group, name)) != name:
            yield f"{field} is an option of {whose}, and means nothing for {name}"
        elif group in groups and without_bank and last in OF_BANKS:
            yield f"{field} is an option of the memory bank, which this run does not have"


def _find_devices() -> None:
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter for a platform that is absent
        asked = os.environ.get("JAX_PLATFORMS")
        raise ValueError(
            f"JAX cannot use the devices of JAX_PLATFORMS={asked}; leave that variable out, or set "
            "it to cpu"
            if asked
            else f"JAX finds no device that it can use: {str(error).splitlines()[0]}"
        ) from error


def _agree_on_run(workdir: Path) -> None:
    """Lets several processes compare what they were started with, before anything is loaded.

    Raises:
      DisagreementError: they differ, or do not see one workdir; names what, with the values and
        whose they are.
    """
    if not processes.are_several():
        return
    given = flags.FLAGS
    facts = program_facts() | {"--workdir": str(workdir)}
    facts |= {f"--{name}": str(given[name].value) for name in ("mode", "checkpoint", "codes")}
    facts |= {
        f"--config.{name}": str(value)
        for name, value in flat_fields(given.config or {})
        if name not in _OF_THE_MACHINE
    }
    facts |= {f"checkpoints in {folder}": str(steps) for folder, steps in _checkpoints(workdir)}
    agree("facts", facts)
    check_shared(workdir)


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


def _end(message: str, exit_code: int) -> NoReturn:
    print(message, file=sys.stderr)
    if processes.are_several():
        processes.leave(exit_code)
    sys.exit(exit_code)
