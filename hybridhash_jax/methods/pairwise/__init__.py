"""Methods that compare pairs or triplets of images."""
