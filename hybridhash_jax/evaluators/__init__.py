"""What measures a network: its codes by retrieval, or its classes by top-1 and top-5."""

from hybridhash_jax.evaluators.classes import ClassEvaluator
from hybridhash_jax.evaluators.codes import CodeEvaluator
from hybridhash_jax.evaluators.evaluator import Evaluation, Evaluator
from hybridhash_jax.experiment import Experiment

EVALUATORS: dict[str, type[Evaluator]] = {"codes": CodeEvaluator, "classes": ClassEvaluator}


def create_evaluator(experiment: Experiment) -> Evaluator:
    """The evaluator of what the experiment's method learns."""
    return EVALUATORS[experiment.method.learns](experiment)


__all__ = ["Evaluation", "Evaluator", "create_evaluator"]
