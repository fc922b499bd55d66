"""Near-duplicates in a folder, in an index, or between two of them."""
