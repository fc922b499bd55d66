"""Near-duplicates of the index: found once a generation, by a process of its own."""

import asyncio
import contextlib
import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import hybridhash_jax
from hybridhash_jax.retrieval.names import shown
from hybridhash_jax.retrieval.service.problems import Problem, busy
from hybridhash_jax.retrieval.service.work.generations import Generation, Generations
from input_pipeline.near_duplicates.finding import RADIUS

_NICE = 10
_RETRY_SECONDS = 5
_KEPT_SECONDS = 60.0  # that a failure is told before they are looked for again
# A process of its own: it takes memory and minutes, and may be ended at any time.
_PROGRAM = (
    f"import os, sys; os.nice({_NICE}); "
    "from hybridhash_jax.retrieval.duplicates.command import main; sys.exit(main(sys.argv[1:]))"
)


class _Result(NamedTuple):
    generation: tuple[object, ...]
    content: dict[str, Any] | None
    error: str | None
    since: float  # time.monotonic


class DuplicateGroups:
    """Finds groups when they are first asked for."""

    def __init__(self, index: Path, generations: Generations):
        """`index` is the folder that `generations` are of."""
        self._index, self._generations = index, generations
        self._result: _Result | None = None
        self._task: asyncio.Task[None] | None = None

    def groups(self, radius: int) -> list[dict[str, Any]]:
        """Those of the current generation, as `hybridhash duplicates` has them.

        Raises:
          Problem: 409 where the index has no hashes, 503 while they are being looked for, 500 for a
            minute where that failed.
        """
        with self._generations.current() as generation:
            if not has_hashes(generation):
                raise Problem(409, "the index has no perceptual hashes, since it is empty or was encoded with --no_hashes, so near-duplicates cannot be found")  # fmt: skip
            identity = _identity(generation)
        result = self._result
        if result is not None and result.generation == identity:
            if result.content is not None:
                return within(result.content, radius)
            if time.monotonic() < result.since + _KEPT_SECONDS:
                raise Problem(500, f"near-duplicates cannot be found: {result.error}. After a minute they are looked for again")  # fmt: skip
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._find(identity))
        raise busy("near-duplicates are being looked for; of many images this takes minutes", _RETRY_SECONDS)  # fmt: skip

    async def close(self) -> None:
        """Ends what still looks for them."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _find(self, identity: tuple[object, ...]) -> None:
        content = error = None
        try:
            content, error = await self._found()
        except Exception:  # such as no memory for a process; nobody waits for this task
            logging.getLogger(__name__).exception("looking for near-duplicates failed")
            error = "the service's log says why"
        self._result = _Result(identity, content, error, time.monotonic())

    async def _found(self) -> tuple[dict[str, Any] | None, str | None]:
        """The groups, or why there are none."""
        with tempfile.TemporaryDirectory(prefix="hybridhash-") as folder:
            out = Path(folder) / "groups.json"
            code, said = await _run(
                [os.fspath(self._index), "--format=json", f"--output={out}", "--num_workers=1"]
            )
            if code:
                lines = said.decode("utf-8", "replace").strip().splitlines()
                return None, lines[-1].removeprefix("error: ") if lines else f"exit code {code}"
            content = await asyncio.to_thread(lambda: with_distances(json.loads(out.read_bytes())))
        return content, None


def has_hashes(generation: Generation) -> bool:
    """Does an image of it have a perceptual hash?"""
    segments = generation.index.segments
    return bool(len(generation.index)) and any(one.hashes is not None for one in segments)


def within(content: dict[str, Any], radius: int) -> list[dict[str, Any]]:
    """The groups without images whose hashes differ from the first's in more than `radius` bits."""
    kept = [
        group | {"images": [image for image in group["images"] if image["distance"] <= radius]}
        for group in content["groups"]
    ]
    return [group for group in kept if len(group["images"]) > 1]


def with_distances(content: dict[str, Any]) -> dict[str, Any]:
    """The groups of `hybridhash duplicates`, each image with its distance from the first one.

    Of several equal images only one is paired with the others of a group; the rest are as far.
    """
    pairs = {tuple(sorted(pair["rows"])): pair["distance"] for pair in content["pairs"]}
    copies: dict[int, list[int]] = {}
    for pair in content["pairs"]:
        if pair["relation"] == "equal":
            for one, other in (pair["rows"], pair["rows"][::-1]):
                copies.setdefault(one, []).append(other)
    for group in content["groups"]:
        founder = group["images"][0]["row"]
        for image in group["images"]:
            near = [image["row"], *copies.get(image["row"], ())]
            found = (pairs.get((min(founder, row), max(founder, row))) for row in near)
            image["distance"] = min((one for one in found if one is not None), default=0)
    return {"groups": content["groups"]}


def page_of(
    generation: Generation, groups: list[dict[str, Any]], offset: int, limit: int
) -> dict[str, Any]:
    """Some of the groups, with rows of the index; images that are gone since are left out."""
    return {
        "generation": generation.index.generation,
        "total": len(groups),
        "offset": offset,
        "groups": [
            {"id": group["id"], "images": _images(generation, group["images"])}
            for group in groups[offset : offset + limit]
        ],
    }


def _images(generation: Generation, images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = [generation.index.row_of(os.fsencode(image["path"])) for image in images]
    return [
        {
            "row": row,
            "path": image["path"],
            "name": shown(image["path"]),
            "width": entry.width,
            "height": entry.height,
            "relation": image["relation"],
            "similarity": image["similarity"],
        }
        for row, image in zip(rows, images, strict=True)
        if row is not None
        for entry in generation.index.entries([row])
    ]


def check_radius(radius: int | None) -> int:
    """The largest distance of hashes; a 422 problem for more than was looked at."""
    if radius is not None and radius > RADIUS:
        raise Problem(422, f"radius={radius}; near-duplicates are found up to {RADIUS} bits; give 0 to {RADIUS}")  # fmt: skip
    return RADIUS if radius is None else radius


def _identity(generation: Generation) -> tuple[object, ...]:
    return generation.index.header, generation.index.generation


async def _run(arguments: list[str]) -> tuple[int, bytes]:
    """Runs `hybridhash duplicates`; returns its exit code, and what it said of errors."""
    package = Path(hybridhash_jax.__file__).parent.parent
    paths = [os.fspath(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", _PROGRAM, *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    try:
        _, said = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    return process.returncode or 0, said
