"""The options of a network that have choices. Imports nothing large: they are read without JAX."""

from hybridhash_jax.models.variants import VARIANTS
from input_pipeline.options import Option

OPTIONS = (
    Option("variant", "network", tuple(VARIANTS)),
    Option("interaction", "what joins two levels", ("full", "none")),
    Option("token_layout", "order of block tokens in memory", ("spatial", "reference")),
    Option("token_pooling", "what a block token stands for", ("block", "half_block")),
    Option("pool_padding", "of max-pooling", ("symmetric", "same")),
    Option("gelu", "form of the activation", ("exact", "tanh")),
    Option("batch_norm", "what batch norm uses in training", ("frozen", "batch")),
    Option("initializer", "of the parameters", ("fan_in", "normal")),
    Option(
        "remat",
        "what the backward pass computes again",
        ("none", "layers", "dots"),
        may_change=True,
    ),
    Option("head_kind", "head on the features, in place of the method's own", ("linear", "hidden")),
    Option("head_width", "units of a hidden head", at_least=1),
    Option("head_dropout", "of a hidden head's units", at_least=0, below=1),
    Option("dtype", "type of the computation", ("auto", "float32", "bfloat16")),
)
_BY_NAME = {option.name: option for option in OPTIONS}


def check_choices(**given: str) -> None:
    """Refuses values that their options do not have; a ValueError says what is accepted."""
    for name, value in given.items():
        _BY_NAME[name].check(value)
