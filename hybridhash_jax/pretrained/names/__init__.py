"""Names of weights in other programs, and ours: a table an architecture."""
