"""What happens to an image between its file and the batch: resize, crop, flip.

The rounding is torchvision's, which the published codes use: `Resize(s)` brings the shorter side
to s and cuts the longer one's fraction off, `CenterCrop` rounds half to even.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from input_pipeline.images.decode import DecodeOptions, decode_image, fits_in_memory
from input_pipeline.images.resample import Crop, resample
from input_pipeline.options import Option

# Random 64-bit words an image: flip, left, top, area, shape, and which other image replaces one
# that cannot be read.
WORDS = 6
_FLIP, _LEFT, _TOP, _AREA, _SHAPE, REPLACEMENT = range(WORDS)
_SHAPES = (3 / 4, 4 / 3)  # of random_area crops, width to height; torchvision's
OPTIONS = (Option("resize", "shorter side before the crop", at_least=1),)


@dataclass(frozen=True)
class ImageTransform:
    """From an image file's bytes to uint8 [size, size, 3]; flips and areas only in training.

    `random_area` is the (smallest, largest) share of the image's area that is cropped, with a
    random shape of 3:4 to 4:3, and resized to `size`; None: `size` out of `resize`.
    """

    size: int
    resize: int  # the shorter side after resizing, at least `size`
    horizontal_flip: bool = False
    random_area: tuple[float, float] | None = None
    options: DecodeOptions = field(default_factory=DecodeOptions)

    def __post_init__(self):
        if not 1 <= self.size <= self.resize:
            raise ValueError(
                f"cannot crop {self.size} pixels out of images whose shorter side is resized to "
                f"{self.resize}; data.resize must be at least the network's image size"
            )
        if self.random_area and not 0 < self.random_area[0] <= self.random_area[1] <= 1:
            raise ValueError(
                f"random_area is {self.random_area}; give (smallest, largest) share of the area, "
                "above 0 and at most 1, for example (0.25, 1.0)"
            )

    def __call__(self, data: bytes, words: np.ndarray | None, out: np.ndarray) -> None:
        """Decodes, crops and writes one image file into `out`, uint8 [size, size, 3].

        `words` are its random numbers in training, uint64 [WORDS]; None in evaluation.
        `UnreadableImage` as by `decode_image`.
        """
        pixels = decode_image(data, self.options)
        height, width, _ = pixels.shape
        with fits_in_memory(width, height):
            if words is not None and self.random_area:
                pixels = self._random_area(pixels, words, self.random_area)
                crop = Crop(self.size, self.size, 0, 0, self.size, self._flips(words))
            else:
                crop = self.crop(width, height, words)
            resample(np.ascontiguousarray(pixels), crop, out)

    def crop(self, width: int, height: int, words: np.ndarray | None) -> Crop:
        """Which crop of an image of this size: at random, or the centre without `words`."""
        new_width, new_height = shorter_side(width, height, self.resize)
        spare_x, spare_y = new_width - self.size, new_height - self.size
        if words is None:
            return Crop(new_width, new_height, round(spare_x / 2), round(spare_y / 2), self.size)
        left, top = int(words[_LEFT]) % (spare_x + 1), int(words[_TOP]) % (spare_y + 1)
        return Crop(new_width, new_height, left, top, self.size, self._flips(words))

    def _flips(self, words: np.ndarray) -> bool:
        return self.horizontal_flip and int(words[_FLIP]) >> 63 == 1

    def _random_area(
        self, pixels: np.ndarray, words: np.ndarray, areas: tuple[float, float]
    ) -> np.ndarray:
        """A random part of the image; a shape that does not fit is cut off at the edges."""
        height, width = pixels.shape[:2]
        area = areas[0] + _fraction(words[_AREA]) * (areas[1] - areas[0])
        low, high = math.log(_SHAPES[0]), math.log(_SHAPES[1])
        shape = math.exp(low + _fraction(words[_SHAPE]) * (high - low))
        w = min(width, max(1, round(math.sqrt(width * height * area * shape))))
        h = min(height, max(1, round(math.sqrt(width * height * area / shape))))
        left, top = int(words[_LEFT]) % (width - w + 1), int(words[_TOP]) % (height - h + 1)
        return pixels[top : top + h, left : left + w]


def shorter_side(width: int, height: int, size: int) -> tuple[int, int]:
    """(width, height) after torchvision's `Resize(size)`: the longer side is rounded down."""
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


def _fraction(word: np.uint64) -> float:
    """A float64 in [0, 1) from the word's upper 53 bits."""
    return (int(word) >> 11) * 2.0**-53
