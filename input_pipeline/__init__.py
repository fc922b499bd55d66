"""From a data set's name to batches of images: files, lists, splits, records, decoding."""
