"""Readers of the files that weights are published in."""
