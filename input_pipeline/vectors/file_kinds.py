"""What a file is that is not what was expected, by its first bytes."""

import re

# A text may begin with the letters PK, RIFF or MATLAB, so more than these counts.
_KINDS = (
    (rb"\x93NUMPY", "an array of NumPy"),
    (rb"PK[\x01-\x08]{2}", "a zip archive"),
    (rb"\x89PNG", "a PNG image"),
    (rb"\xff\xd8\xff", "a JPEG image"),
    (rb"GIF8[79]a", "a GIF image"),
    (rb"RIFF.{4}(WEBP|WAVE|AVI )", "a RIFF file, such as a WebP image"),
    (rb"%PDF-", "a PDF document"),
    (rb"PAR1", "a Parquet file"),
    (rb"\x89HDF", "an HDF5 file"),
    (rb"MATLAB \d\.\d MAT-file", "a MATLAB file"),
    (rb"\x1f\x8b", "a gzip file"),
    (rb"\x80[\x02-\x05]", "a Python pickle"),
)


def kind_of(head: bytes) -> str:
    """Says what a file is that starts with these bytes, such as "a PNG image"."""
    if not head:
        return "empty"
    for beginning, kind in _KINDS:
        if re.match(beginning, head, re.DOTALL):
            return kind
    if any(byte < 32 and byte not in b"\t\n\v\f\r" or byte == 127 for byte in head):
        return "of no kind that is known here"
    text = head.decode("utf-8", "ignore")  # the last letter may be cut
    return "text" if len(text.encode()) > len(head) - 4 else "text that is not UTF-8"
