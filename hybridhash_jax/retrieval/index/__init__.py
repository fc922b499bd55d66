"""An index on disk: codes, where their images are, and what made them."""
