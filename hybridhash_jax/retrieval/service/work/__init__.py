"""What is done for them: decoding, the network, scanning, files, near-duplicates."""
