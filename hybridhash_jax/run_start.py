"""The beginning of a run: its parameters, and what its workdir says of them."""

from pathlib import Path
from typing import TypeVar

import jax

from hybridhash_jax.config_rules import Config, to_json
from hybridhash_jax.run_plan import RunPlan
from hybridhash_jax.state import TrainState
from hybridhash_jax.workdir.checkpoints import committed_steps
from hybridhash_jax.workdir.contents import CHECKPOINTS, CONFIG_FILE, load_init_note, save_init

Plan = TypeVar("Plan", bound=RunPlan)


def start_run(plan: Plan, own: Config, workdir: Path) -> tuple[Plan, TrainState]:
    """Makes the first state and writes the configuration; returns what the run starts from.

    Where the workdir has checkpoints, init.from is not read again: they replace the parameters.

    Args:
      plan: of the run.
      own: its configuration, as the workdir keeps it.
      workdir: made if it is not there, after a file to start from was found to fit.

    Raises:
      ValueError: init.from cannot be read or does not fit.
    """
    state, loaded = plan.create_state(), None
    resumes = bool(committed_steps(workdir / CHECKPOINTS))
    if not resumes:
        state, loaded = plan.load_init(state)
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / CONFIG_FILE).write_text(to_json(own))
        if not resumes:
            save_init(workdir, loaded)
    note = load_init_note(workdir) if resumes else loaded and loaded.summary
    return plan.starting_from(note), state
