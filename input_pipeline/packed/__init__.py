"""Data sets packed into a few large files of records."""
