"""List files: the images of each split with their labels."""
