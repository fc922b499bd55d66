"""The choices of a network's options. Imports nothing, so that flags are checked without JAX."""

CHOICES: dict[str, tuple[str, ...]] = {
    "interaction": ("full", "none"),
    "token_layout": ("spatial", "reference"),
    "token_pooling": ("block", "half_block"),
    "pool_padding": ("symmetric", "same"),
    "gelu": ("exact", "tanh"),
    "initializer": ("fan_in", "normal"),
    "remat": ("none", "layers", "dots"),
}


def check_choices(**given: str) -> None:
    """Refuses values that `CHOICES` does not have for their option.

    Raises:
      ValueError: names the option, the value, and what is accepted.
    """
    for option, value in given.items():
        if value not in CHOICES[option]:
            accepted = ", ".join(CHOICES[option])
            raise ValueError(f"{option}={value!r} is unknown; accepted: {accepted}")
