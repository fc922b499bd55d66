"""Which image formats are read, and how a file of one of them is opened."""

import contextlib
import functools
import importlib
import io
import re
import textwrap

from PIL import Image, features

from input_pipeline.errors import UnreadableImage

# MPO, of cameras with two lenses, opens as JPEG. HEIF is read where pillow-heif is installed.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF")
# How names of such files end. What is in a file decides how it is read.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif",
    ".tiff", ".avif", ".avifs",
)  # fmt: skip
HEIF_SUFFIXES = (".heic", ".heif", ".hif")  # apart, since HEIF is not read everywhere
_OPTIONAL = {"WEBP": "webp", "AVIF": "avif"}  # not in every build of Pillow
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
_RAW_BYTES = re.compile(r"""\bb(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")
_OBJECT = re.compile(r"<[^<>]* at 0x[0-9a-fA-F]+>")


@functools.cache
def _init() -> None:
    """Makes Pillow know its formats, and HEIF where that is installed."""
    Image.init()
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()


def accepted_formats() -> list[str]:
    """Those of `FORMATS` that this Pillow opens."""
    _init()
    known = [name for name in FORMATS if name in Image.OPEN]
    return [x for x in known if x not in _OPTIONAL or features.check(_OPTIONAL[x])]


def starts_as(data: bytes) -> list[str]:
    """The accepted formats whose files start as these bytes do; one, or none, as a rule."""
    _init()
    return [name for name in FORMATS if name in Image.OPEN and _accepts(name, data[:16])]


def open_image(data: bytes) -> Image.Image:
    """Opens a file's bytes with Pillow, without decoding the pixels; its size may be any.

    `Image.open` is not asked: it refuses or warns about sizes by a limit of the whole process.

    Raises:
      UnreadableImage: empty, damaged, or not of an accepted format.
    """
    if not data:
        raise UnreadableImage("the file is empty")
    failure = None
    for name in starts_as(data):
        try:
            return Image.OPEN[name][0](io.BytesIO(data), "")
        except MemoryError as error:
            raise UnreadableImage("too large for this machine's memory") from error
        except Exception as error:  # plugins let all kinds through
            failure = failure or UnreadableImage(why_not(error, f"a damaged {name} file: "))
    raise failure or UnreadableImage(_refusal(data))


def why_not(error: Exception, of: str = "") -> str:
    """What a library says of a damaged file, without raw bytes, addresses and line breaks.

    `of` goes before it.
    """
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        # WebP and TIFF plugins ask by themselves.
        limit = Image.MAX_IMAGE_PIXELS or 0
        return f"too large for Pillow, whose limit PIL.Image.MAX_IMAGE_PIXELS is {limit:,} pixels"
    text = _OBJECT.sub("...", _RAW_BYTES.sub("...", str(error)))
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    if not isinstance(error, OSError | SyntaxError | ValueError) or not text.strip():
        text = f"{type(error).__name__} {text}"  # such as an index: nothing without its kind
    return of + textwrap.shorten(text, 160, placeholder=" ...")


def _refusal(data: bytes) -> str:
    accepted = f"accepted: {', '.join(accepted_formats())}"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        return f"HEIC is read only where pillow-heif is installed; {accepted}"
    others = [name for name in Image.OPEN if name not in FORMATS and _accepts(name, data[:16])]
    if others:
        return f"{others[0]} is not read; {accepted}"
    return f"not an image of a format that is read; {accepted}"


def _accepts(name: str, start: bytes) -> bool:
    accept = Image.OPEN[name][1]
    if accept is None:  # the plugin says so only after reading all of it
        return False
    try:
        answer = accept(start)
    except Exception:  # too short for the plugin
        return False
    return bool(answer) and not isinstance(answer, str)  # a text: known, but not built in
