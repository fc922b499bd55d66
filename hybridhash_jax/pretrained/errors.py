"""What can be wrong with pre-trained weights; each message is written for the user."""


class WeightFileError(ValueError):
    """A weight file is missing, damaged, of another kind, or holds more than tensors."""


class IncompatibleWeightsError(ValueError):
    """The file's entries and the network's parameters do not match, beyond what is explained."""
