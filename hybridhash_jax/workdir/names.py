"""Every file and folder of a workdir, by name.

A workdir holds one run. A sweep holds a workdir for each code length (`16bits`, `32bits`), and the
results, report and pictures over all of them.
"""

CONFIG = "config.json"  # the whole configuration; says which run this is
LOCK = "lock.json"  # the process that trains here
INIT = "init.json"  # what the parameters started from
DATA = "data.json"  # which images the run is of
LISTS = "lists"  # its splits, as list files
CHECKPOINTS = "checkpoints"  # a folder a step
DAMAGED = "damaged_checkpoints"  # checkpoints that could not be read
CODES = "codes"  # query.npz and database.npz of the selected evaluation
LOG = "metrics.jsonl"  # a line a logged step or evaluation
EVENTS = "tensorboard"  # the same as events
RESULTS = "results.json"  # one entry a run
REPORT = "report.json"  # what the report shows, as numbers
PAGE = "report.html"
TRAINING_FIGURE = "training.png"
EVALUATION = "evaluation"  # what --mode=evaluate writes: results, report, codes
TUNING = "tune_batch.json"  # what --mode=tune_batch found
ALL_UNREADABLE = "unreadable*.txt"  # every list that `unreadable` names

# What --mode=compare writes, beside a page of all runs.
COMPARED = "runs"  # METHOD/seed0/32bits: the workdir of one run
CHOICES = "tuning"  # METHOD: the trials of one method
ALL_CHOICES = "tuning.json"  # the trials of all, and what was chosen
COMPARISON = "comparison"  # .json, .csv and .tex of the table


def evaluation(step: int, selected: int | None) -> str:
    """Where --mode=evaluate writes; a folder of its own for a checkpoint that is not selected."""
    return EVALUATION if step == selected else f"{EVALUATION}-{step}"


def unreadable(process: int | None = None) -> str:
    """The list of images that could not be read; one a process where there are several."""
    return "unreadable.txt" if process is None else f"unreadable-{process}.txt"
