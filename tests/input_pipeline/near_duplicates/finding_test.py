"""Which changes of an image are found, by which views, and what is not taken for one."""

import io
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from input_pipeline.near_duplicates.finding import Options, near_duplicates, work
from input_pipeline.near_duplicates.hashing import perceptual_hash
from input_pipeline.near_duplicates.pictures import Pictures, small_picture
from input_pipeline.near_duplicates.radius import pairs_within
from input_pipeline.near_duplicates.views import VIEWS, inverse
from tests.input_pipeline.near_duplicates.scenes import crop, scene

SEEDS = range(12)


def pictures(images: Sequence[Image.Image]) -> Pictures:
    pixels = [np.asarray(image.convert("RGB")) for image in images]
    return Pictures.of(
        [(perceptual_hash(x), small_picture(x), x.shape[1] / x.shape[0]) for x in pixels]
    )


def jpeg(picture: Image.Image) -> Image.Image:
    content = io.BytesIO()
    picture.save(content, "jpeg", quality=30)
    return Image.open(content)


def captioned(picture: Image.Image) -> Image.Image:
    changed = picture.copy()
    box = (0, 0.88 * picture.height, picture.width, picture.height)
    ImageDraw.Draw(changed).rectangle(box, fill="black")
    return changed


Change = Callable[[Image.Image], Image.Image]
PLAIN: dict[str, Change] = {
    "quality": jpeg,
    "size": lambda x: x.resize((100, 75)),
    "shape": lambda x: x.resize((200, 110)),
    "grey": ImageOps.grayscale,
    "blur": lambda x: x.filter(ImageFilter.GaussianBlur(2)),
    "caption": captioned,
}
DIHEDRAL: dict[str, Change] = {
    "mirrored": ImageOps.mirror,
    "turned by 90 degrees": lambda x: x.transpose(Image.Transpose.ROTATE_90),
    "turned by 270 degrees": lambda x: x.transpose(Image.Transpose.ROTATE_270),
    "turned by 180 degrees": lambda x: x.transpose(Image.Transpose.ROTATE_180),
    "mirrored and turned by 90 degrees": lambda x: x.transpose(Image.Transpose.TRANSPOSE),
    "mirrored and turned by 180 degrees": ImageOps.flip,
}
MULTI: dict[str, Change] = {
    "large crop": lambda x: crop(x, 0.9, 0.3, 0.8),
    "crop": lambda x: crop(x, 0.75, 0.9, 0.1),
    "small crop": lambda x: crop(x, 0.6, 0.42, 0.57),
    "rotation": lambda x: x.rotate(4, Image.Resampling.BICUBIC),
    "border": lambda x: ImageOps.expand(x, 10, "white"),
}

# Of twelve; a hash, or the views there are, may just miss a few.
LEAST = {"caption": 4, "large crop": 11, "crop": 10, "small crop": 7, "rotation": 10, "border": 10}


def found_own(change: Change, view: str) -> list[tuple[int, int]]:
    """Pairs of a changed image and one of twelve scenes."""
    scenes = [scene(seed) for seed in SEEDS]
    found = near_duplicates(
        pictures([change(x) for x in scenes]), pictures(scenes), Options(view, num_workers=2)
    )
    return sorted(zip(found.first.tolist(), found.second.tolist(), strict=True))


@pytest.mark.parametrize(
    "view, change",
    [
        *(("plain", change) for change in PLAIN),
        *(("dihedral", change) for change in DIHEDRAL),
        *(("multi", change) for change in MULTI),
    ],
)
def test_changed_images_are_found_with_their_view(view, change):
    every = PLAIN | DIHEDRAL | MULTI
    pairs = found_own(every[change], view)
    assert all(a == b for a, b in pairs)
    assert len(pairs) >= LEAST.get(change, len(SEEDS))


@pytest.mark.parametrize("view, change", [("plain", "mirrored"), ("dihedral", "small crop")])
def test_fewer_views_find_less(view, change):
    assert not found_own((DIHEDRAL | MULTI)[change], view)


@pytest.mark.parametrize("name", DIHEDRAL)
def test_the_view_is_named_for_what_happened_to_the_image(name):
    original = scene(0)
    both = pictures([original, DIHEDRAL[name](original)])
    found = near_duplicates(both, None, Options("dihedral"))
    told = [view.name for view in VIEWS["dihedral"]()][found.views[0]]
    assert (inverse(told) if found.reversed[0] else told) == name


def test_a_crop_is_told_from_what_it_was_cropped_from():
    original, part = scene(3), crop(scene(3), 0.6, 0.5, 0.5)
    for images, expected in (([original, part], "cropped"), ([part, original], "shows more")):
        found = near_duplicates(pictures(images))
        told = VIEWS["multi"]()[found.views[0]].name
        assert (inverse(told) if found.reversed[0] else told) == expected


def test_similar_layouts_are_no_near_duplicates():
    # The same coarse shapes, with other things on them: hashes are near.
    base = scene(0).filter(ImageFilter.GaussianBlur(8))
    images = []
    for seed in range(6):
        rng, picture = np.random.default_rng(seed), base.copy()
        for x, y in rng.integers(0, (195, 145), (40, 2)).tolist():
            level = int(rng.choice([0, 255]))
            ImageDraw.Draw(picture).rectangle((x, y, x + 6, y + 6), fill=(level, level, level))
        images.append(picture)
    given = pictures(images)
    assert len(pairs_within(given.hashes, 20).first) > 5  # they are candidates
    assert len(near_duplicates(given, None, Options("plain", radius=20)).first) == 0


def test_pairs_within_one_set_are_each_given_once_in_order():
    scenes = [scene(seed) for seed in SEEDS]
    given = pictures([*scenes, *(jpeg(x) for x in scenes), *(ImageOps.mirror(x) for x in scenes)])
    found = near_duplicates(given)
    pairs = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    n = len(SEEDS)
    assert set(pairs) == {
        (a + i * n, a + j * n) for a in SEEDS for i, j in ((0, 1), (0, 2), (1, 2))
    }
    assert len(pairs) == len(set(pairs))
    assert (np.diff(found.similarities) <= 0).all()


def test_equal_images_are_exact_and_one_stands_for_all_of_them():
    given = pictures([scene(0)] * 5 + [scene(1)] + [jpeg(scene(0))])
    found = near_duplicates(given, None, Options("plain"))
    pairs = dict(
        zip(zip(found.first.tolist(), found.second.tolist(), strict=True), found.exact, strict=True)
    )
    assert pairs == {(0, 1): True, (0, 2): True, (0, 3): True, (0, 4): True, (0, 6): False}


def test_against_others_every_copy_is_named():
    given, others = pictures([scene(0), scene(0), scene(1)]), pictures([jpeg(scene(0))] * 2)
    found = near_duplicates(given, others, Options("plain"))
    pairs = sorted(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.parametrize("change", [lambda x: x, jpeg])
def test_of_very_many_copies_each_is_named_with_others_but_not_with_all(change):
    one, other = pictures([scene(0)]), pictures([change(scene(0))])
    given, others = one.take(np.zeros(1500, np.int64)), other.take(np.zeros(1200, np.int64))
    found = near_duplicates(given, others, Options("plain"))
    pairs = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert len(pairs) == len(set(pairs)) == 2 * 1500 + 2 * 1200 - 4
    # As where a folder is compared with one that it is in.
    of_two_files = [pair for pair in pairs if pair[0] != pair[1]]
    assert {a for a, _ in of_two_files} == set(range(1500))
    assert {b for _, b in of_two_files} == set(range(1200))


@pytest.mark.parametrize("view", VIEWS)
def test_equal_images_of_two_sides_are_exact(view):
    faint = Image.fromarray(np.tile(np.arange(40, dtype=np.uint8) // 4 + 100, (30, 1)))
    images = [scene(0), scene(1), faint]
    given = pictures(images)
    assert not given.flat().any()
    found = near_duplicates(given, pictures([*images, jpeg(scene(0))]), Options(view))
    pairs = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert pairs[:3] == [(0, 0), (1, 1), (2, 2)] and pairs[3] == (0, 3)
    assert found.exact[:4].tolist() == [True, True, True, False]
    assert found.similarities[:3].tolist() == [1, 1, 1] and found.similarities[3] < 1
    assert not found.distances[:3].any() and not found.reversed[:3].any()


def test_flat_images_are_compared_with_equal_ones_only():
    white, grey = Image.new("RGB", (40, 30), "white"), Image.new("RGB", (40, 30), "grey")
    given = pictures([white, grey, white, scene(0)])
    assert given.flat().tolist() == [True, True, True, False]
    for found in (near_duplicates(given), near_duplicates(pictures([white]), given)):
        pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
        assert pairs in ({(0, 2)}, {(0, 0), (0, 2)})
    assert len(near_duplicates(pictures([white]), given).first) == 2


@pytest.mark.parametrize("view", VIEWS)
def test_progress_adds_up(view):
    given, others = pictures([scene(seed) for seed in SEEDS]), pictures([scene(0), scene(0)])
    for second in (None, others):
        steps = []
        near_duplicates(given, second, Options(view), steps.append)
        assert sum(steps) == work(given, second)


def test_nothing_is_found_in_nothing():
    assert len(near_duplicates(pictures([])).first) == 0
    assert len(near_duplicates(pictures([]), pictures([scene(0)])).first) == 0


def test_between_two_sets_a_crop_is_told_on_either_side():
    whole, part = pictures([scene(3)]), pictures([crop(scene(3), 0.6, 0.5, 0.5)])
    for first, second, expected in ((whole, part, "cropped"), (part, whole, "shows more")):
        found = near_duplicates(first, second)
        told = VIEWS["multi"]()[found.views[0]].name
        assert (inverse(told) if found.reversed[0] else told) == expected
