"""From image files to codes, with a trained network or without labels."""
