"""Trains and evaluates deep hashing networks.

  python main.py --config=configs/digits.py --workdir=runs/digits
  python main.py --config=configs/cifar10.py --workdir=runs/cifar10 --config.bits=16,32,48,64
  python main.py --config=configs/pretrain_imagenet.py --workdir=runs/pretrained (its backbone)
  python main.py --mode=tune_batch --config=configs/cifar10.py --workdir=runs/cifar10
  python main.py --mode=evaluate --workdir=runs/digits
  python main.py --mode=evaluate --codes=CODES --workdir=runs/codes

Every field of configs/default.py can be given: --config.optimizer.learning_rate=1e-4
The same command again goes on where a run was stopped, by whatever. Ctrl-C and SIGTERM save first
and exit with 130 and 143; 134: another process was lost; 1 is an error, which is explained; 0 is a
finished run. On a TPU pod, under SLURM or Open MPI processes find each other; see docs/pods.md.
"""

from pathlib import Path

import jax
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from hybridhash_jax import command_line
from hybridhash_jax.batch_tuning import tune_batch
from hybridhash_jax.distributed import processes
from hybridhash_jax.evaluation_run import evaluate_checkpoint, evaluate_code_files
from hybridhash_jax.run import train
from hybridhash_jax.runtime import compilation_cache, console, host_memory
from hybridhash_jax.runtime.interrupt import StopRequest
from hybridhash_jax.workdir.config import load_config

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file("config", None, "The configuration: a file of configs/.")
flags.DEFINE_string("workdir", None, "Where the run is kept: checkpoints, logs, results.")
MODES = "evaluate: only measure a checkpoint of the workdir. tune_batch: find the largest batch."
flags.DEFINE_enum("mode", "train", ["train", "evaluate", "tune_batch"], MODES)
WHICH = "For --mode=evaluate: selected, latest, or a checkpoint's step."
flags.DEFINE_string("checkpoint", "selected", WHICH)
flags.DEFINE_string(
    "codes",
    None,
    "For --mode=evaluate: measure these codes instead. A folder with query.npz and database.npz, the "
    "two files, or four .npy files (codes and labels of queries, of the database), with commas.",
)
flags.DEFINE_integer(
    "top_k", None, "For --codes: places of mAP; default: what the files say, else all."
)
KEPT = "Keeps compiled programs: a folder, or off; default: beside the workdir."
flags.DEFINE_string("compilation_cache", None, KEPT)
flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0, for several processes.")
flags.DEFINE_integer("num_processes", None, "How many processes there are.")
flags.DEFINE_integer("process_id", None, "This process's number, from 0.")
flags.DEFINE_integer("initialization_timeout", 300, "Seconds to wait for the other processes.")


def main(_: list[str]) -> None:
    """Sets the process up and runs one mode."""
    absl_logging.set_verbosity(absl_logging.ERROR)  # Orbax reports every file at INFO
    host_memory.compute_on_calling_thread()
    processes.start(
        FLAGS.coordinator_address,
        FLAGS.num_processes,
        FLAGS.process_id,
        initialization_timeout=FLAGS.initialization_timeout,
    )
    console.set_up(quiet=jax.process_index() > 0)
    workdir = Path(FLAGS.workdir).expanduser()
    compilation_cache.set_up(FLAGS.compilation_cache, workdir)
    command_line.agree_on_run(workdir)
    if FLAGS.mode == "train":
        train(FLAGS.config, workdir, StopRequest())
    elif FLAGS.mode == "tune_batch":
        tune_batch(FLAGS.config, workdir)
    elif FLAGS.codes is not None:
        evaluate_code_files(FLAGS.codes, workdir, FLAGS.top_k)
    else:
        config = load_config(workdir) if FLAGS.config is None else FLAGS.config
        evaluate_checkpoint(config, workdir, FLAGS.checkpoint)


if __name__ == "__main__":
    app.run(command_line.explained(main), flags_parser=command_line.parse_flags(__doc__))
