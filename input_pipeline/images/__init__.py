"""Decoding, resizing and cropping single images."""
