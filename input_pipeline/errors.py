"""What can be wrong with files; mistakes in arguments are `ValueError` instead."""


class DataError(Exception):
    """A data file is missing, damaged, unsafe or not to be had; says which, and what to do."""


class UnreadableImage(Exception):
    """This image cannot be used; the message is the reason, without the file's name."""


class UnreadableFile(UnreadableImage):
    """The file itself cannot be read, whatever is in it."""


def of_system(error: Exception) -> bool:
    """Did the system refuse to read a file, which may be good? gzip's errors have no number."""
    return isinstance(error, OSError) and error.errno is not None
