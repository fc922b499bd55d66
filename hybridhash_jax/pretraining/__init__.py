"""Supervised pre-training: the backbone learns to classify before it learns to hash."""
