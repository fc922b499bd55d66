"""Top-1, top-5 and the loss of a classifier on images that it was not trained on."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.distributed.state_sharding import compile_on_batches
from hybridhash_jax.encode import EvaluationStopped, NotANumberError
from hybridhash_jax.evaluators.evaluator import Evaluation, Evaluator, OnImages, ShouldStop
from hybridhash_jax.experiment import Experiment
from hybridhash_jax.methods.classification import is_among_top, mean_cross_entropy
from hybridhash_jax.runtime import compilation_cache
from hybridhash_jax.runtime.console import logger
from hybridhash_jax.state import TrainState
from hybridhash_jax.workdir import log, names
from hybridhash_jax.workdir.fingerprints import model_fingerprint

Sums = Mapping[str, jax.Array]
_TOP = 5
_INPUTS = ("image", "label", "mask")


class ClassEvaluator(Evaluator):
    """Counts right answers on the data set's queries; its database is not used.

    A record has top1 and top5 (shares of right answers, 0 to 1), loss (mean cross-entropy) and
    validation (images that could be read).
    """

    measured = ("top1", "top5")
    told = ("loss", "validation")

    def __init__(self, experiment: Experiment):
        super().__init__(experiment)
        self.rows = experiment.dataset.splits.query
        self.num_images = len(self.rows)
        self.count = compile_on_batches(self._count, experiment.mesh, experiment.layout)

    def _count(self, params: Any, batch: Mapping[str, jax.Array]) -> Sums:
        """Sums over the images of a batch."""
        logits, mask = self.experiment.apply(params, batch["image"]), batch["mask"]
        class_ids = jnp.argmax(batch["label"], axis=1)
        images = jnp.sum(mask)
        is_finite = jnp.isfinite(logits).all(axis=1)  # else the loss of all images is NaN
        return {
            "top1": jnp.sum(is_among_top(logits, class_ids, 1) & mask),
            "top5": jnp.sum(is_among_top(logits, class_ids, _TOP) & mask),
            "loss": mean_cross_entropy(logits, batch["label"], mask) * images,
            "images": images,
            "not_finite": jnp.sum(~is_finite & mask),
        }

    def measure(
        self, state: TrainState, should_stop: ShouldStop, on_images: OnImages
    ) -> Evaluation:
        """See `Evaluator.measure`."""
        started, compiling = time.perf_counter(), compilation_cache.COUNTS.seconds
        totals = dict.fromkeys(("top1", "top5", "loss", "images", "not_finite"), 0.0)

        def fetch(sums: Sums) -> None:
            for name in totals:
                totals[name] += float(np.asarray(sums[name]))
            on_images(int(np.asarray(sums["images"])))

        previous: Sums | None = None
        with contextlib.closing(self.experiment.eval_batches(self.rows)) as batches:
            for batch in batches:
                if should_stop():
                    raise EvaluationStopped
                kept = sharding.put_batch(
                    {name: batch[name] for name in _INPUTS}, self.experiment.mesh
                )
                # Runs while the sums before are fetched.
                current = self.count(state.evaluated_params, kept)
                if previous is not None:
                    fetch(previous)
                previous = current
        if previous is not None:
            fetch(previous)
        images, not_finite = int(totals.pop("images")), int(totals.pop("not_finite"))
        if not images:
            raise ValueError(
                "none of the validation images could be read; there is nothing to measure"
            )
        if not_finite:
            raise NotANumberError(
                f"the outputs of {not_finite:,} of {images:,} validation images are NaN or infinite, "
                "and name no class. All of them: look for a diverged training run or a damaged "
                "checkpoint. A few: compute in float32 (--config.model.dtype=float32)."
            )
        seconds = time.perf_counter() - started
        compiling = compilation_cache.COUNTS.seconds - compiling
        record = {
            **{name: total / images for name, total in totals.items()},
            "validation": images,
            "parameters_fingerprint": model_fingerprint(state.evaluated_params),
            "evaluate_seconds": seconds,
            "images_per_second": images / (seconds - compiling),
        }
        return Evaluation(record)

    def facts(self) -> dict[str, Any]:
        """What is learned, of how many classes."""
        return {
            "task": "classify",
            "classes": self.experiment.num_classes,
            "averaged_parameters": self.experiment.config.pretraining.ema_decay > 0,
        }

    def table(self, entries: Sequence[Mapping[str, Any]]) -> str:
        """The selected, the best and the last evaluation of each run."""
        lines = []
        for entry in entries:
            lines.append(f"{entry['dataset']}, {entry['variant']}")
            for name in ("selected", "best", "last"):
                found = entry if name == "selected" else entry[name]
                lines.append(
                    f"{name:>8}: top-1 {found['top1']:.4f}, top-5 {found['top5']:.4f} at epoch "
                    f"{found['epoch']:g}"
                )
        return "\n".join(lines)

    def write_report(
        self,
        workdir: Path,
        evaluation: Evaluation,
        source: str,
        entry: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Draws training.png at the end of a run."""
        del evaluation, source
        if entry is None:
            return {}
        if self.experiment.config.evaluation.report:
            from hybridhash_jax.report import figures

            variant = self.experiment.config.model.variant
            drawn = {
                "title": f"{self.experiment.dataset.name}, {variant} as a classifier",
                "training": log.drawn_steps(workdir),
                "evaluations": entry["evaluations"],
            }
            figures.plot_classification(drawn, workdir / names.TRAINING_FIGURE)
        logger.info("hashing starts from it with --config.init.weights=%s", workdir)
        return {}
