"""Images that are nearly the same: perceptual hashes, candidates, and their verification."""
