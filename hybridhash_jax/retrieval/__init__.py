"""From a folder of images to answers: encode, index, search, near-duplicates."""
