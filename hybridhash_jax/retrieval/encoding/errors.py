"""What can be wrong with an encoder."""


class EncoderError(ValueError):
    """No encoder can be made of what was given; says why, and what would do."""
