"""Videos written image by image: the same file as from a clip, never whole in memory, whole on disk or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from store import Clip, read_clip, write_clip
from store.clips.encoding import write_video
from store.errors import ClipError, InvalidInputError, OutputExistsError


def waves(images: int = 9, height: int = 160, width: int = 224) -> np.ndarray:
    """Slow waves of colour, different along every axis: what a codec keeps well."""
    t, y, x = np.meshgrid(np.arange(images), np.arange(height), np.arange(width), indexing="ij")
    parts = [np.sin(x / 17 + t / 3), np.sin(y / 11 - t / 5), np.sin((x + 2 * y) / 29)]
    return np.stack([127 + 100 * part for part in parts], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_images_one_by_one_come_back_as_those_of_a_clip(tmp_path: Path, name: str) -> None:
    images = waves(9, 80, 112)  # as small as this nothing is lost but rounding, so that files can be compared
    one_by_one = read_clip(write_video(tmp_path / "deep" / name, iter(images), 12.5))
    at_once = read_clip(write_clip(tmp_path / name, Clip(images, 12.5)))
    np.testing.assert_array_equal(one_by_one.images, at_once.images)
    assert one_by_one.fps == at_once.fps == 12.5
    assert np.abs(one_by_one.images.astype(int) - images).max() <= 3
    assert [file.name for file in (tmp_path / "deep").iterdir()] == [name]


def test_few_images_are_in_memory_at_a_time(tmp_path: Path) -> None:
    alive: set[int] = set()
    most = 0

    def drawn() -> Iterator[np.ndarray]:
        nonlocal most
        for number in range(60):
            image = np.full((128, 160, 3), 4 * number, np.uint8)
            alive.add(number)
            weakref.finalize(image, alive.discard, number)
            most = max(most, len(alive))
            yield image

    write_video(tmp_path / "long.mp4", drawn(), 24)
    assert len(read_clip(tmp_path / "long.mp4")) == 60
    assert most <= 3  # the first, whose size the others must have, the last, and this one


class Unreadable(ValueError):
    pass


def failing(images: np.ndarray) -> Iterator[np.ndarray]:
    yield from images
    raise Unreadable("the source ends")


@pytest.mark.parametrize("before", [0, 5])
def test_what_fails_in_the_images_is_said_as_it_is_and_leaves_nothing(tmp_path: Path, before: int) -> None:
    with pytest.raises(Unreadable, match="the source ends"):
        write_video(tmp_path / "clip.mp4", failing(waves()[:before]), 8)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_video_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", Clip(waves(3), 8, prompt="old"))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(OutputExistsError) as caught:
        write_video(path, iter(waves()), 8)
    assert str(caught.value) == (
        f"{path} and {path}.npz exist already. Choose another path for the clip, or pass overwrite=True to "
        "replace them."
    )
    with pytest.raises(Unreadable):
        write_video(path, failing(waves()), 8, overwrite=True)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert len(read_clip(write_video(path, iter(waves()), 8, overwrite=True))) == 9
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]  # the old prompt went with the old video


def test_a_killed_write_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    code = (
        "import os, signal, numpy as np\n"
        "from store.clips.encoding import write_video\n"
        "def images():\n"
        "    for number in range(200):\n"
        "        if number == 120:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        yield np.full((160, 224, 3), number, np.uint8)\n"
        f"write_video({str(tmp_path / 'clip.mp4')!r}, images(), 8)\n"
    )
    root = Path(__file__).parents[3]
    killed = subprocess.run([sys.executable, "-c", code], cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".clip.")
    assert ".partial" in left.name


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "there are no images to write to a .mp4 file."),
        ([np.zeros((80, 112, 3))], "image 0 must be uint8 (y, x, 3); got float64 of shape (80, 112, 3)."),
        ([np.zeros((80, 112), np.uint8)], "image 0 must be uint8 (y, x, 3); got uint8 of shape (80, 112)."),
        (
            [np.zeros((80, 112, 3), np.uint8), np.zeros((82, 112, 3), np.uint8)],
            "image 1 is of 82 x 112 px (height x width), but image 0 of 80 x 112 px. Resize one to the other.",
        ),
    ],
)
def test_other_images_are_refused(tmp_path: Path, images: list[np.ndarray], message: str) -> None:
    with pytest.raises(ClipError) as caught:
        write_video(tmp_path / "clip.mp4", images, 8)
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


def test_other_paths_and_rates_are_refused_before_an_image_is_asked_for(tmp_path: Path) -> None:
    unasked = failing(waves(1)[:0])
    with pytest.raises(InvalidInputError, match=r"clip\.gif cannot hold the clip: its suffix must be"):
        write_video(tmp_path / "clip.gif", unasked, 8)
    for fps in (0, float("nan")):
        with pytest.raises(ClipError, match="fps must be a positive number; got "):
            write_video(tmp_path / "clip.mp4", unasked, fps)
