"""Readers of annotations as data sets publish them."""
