"""One loader for each kind of data set."""
