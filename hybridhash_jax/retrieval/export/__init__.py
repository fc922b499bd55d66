"""Codes of an index for other programs: files, and tables of servers that are kept equal to it."""
