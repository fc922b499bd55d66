"""The one exception of this package that is about files rather than about arguments."""


class DataError(Exception):
    """A data file is missing, damaged, unsafe to read or could not be downloaded.

    The message names the file and says what to do next. Mistakes in arguments (an unknown
    protocol, a batch size that does not divide) are `ValueError` instead.
    """
