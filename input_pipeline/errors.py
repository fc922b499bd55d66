"""What can be wrong with files; mistakes in arguments are `ValueError` instead."""


class DataError(Exception):
    """A data file is missing, damaged, unsafe to read or could not be downloaded.

    The message names the file and says what to do next.
    """


class UnreadableImage(Exception):
    """This image cannot be used; the message is the reason, without the file's name."""
