"""What a file is that is not what was expected, by its first bytes."""

_KINDS = (
    (b"\x93NUMPY", "an array of NumPy"),
    (b"PK", "a zip archive"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"RIFF", "a RIFF file, such as a WebP image"),
    (b"%PDF", "a PDF document"),
    (b"PAR1", "a Parquet file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"MATLAB", "a MATLAB file"),
    (b"\x1f\x8b", "a gzip file"),
    *((bytes([0x80, protocol]), "a Python pickle") for protocol in range(2, 6)),
)


def kind_of(head: bytes) -> str:
    """Says what a file is that starts with these bytes, such as "a PNG image"."""
    if not head:
        return "empty"
    for beginning, kind in _KINDS:
        if head.startswith(beginning):
            return kind
    if any(byte < 32 and byte not in b"\t\n\v\f\r" or byte == 127 for byte in head):
        return "of no kind that is known here"
    text = head.decode("utf-8", "ignore")  # the last letter may be cut
    return "text" if len(text.encode()) > len(head) - 4 else "text that is not UTF-8"
