"""A part of a video is the slice of the whole, to the bit, and no other image becomes a picture."""

from fractions import Fraction

import av
import numpy as np
import pytest

import store.clips.decoding
from store import Clip, read_clip, read_clips, write_clip
from store.clips.decoding import Wanted
from store.clips.video import extras_path
from store.errors import ClipError, InvalidInputError

IMAGES = 41
B_FRAMES = {"bf": "3", "g": "8", "b_strategy": "0"}
KINDS = {
    "one key image.mp4": ("libx264", {"g": "250"}),
    "key images.mp4": ("libx264", B_FRAMES),
    "open groups.mkv": ("libx264", {**B_FRAMES, "x264-params": "open-gop=1"}),
    "no key images.mp4": ("libx264", {"x264-params": "intra-refresh=1:keyint=8:bframes=0"}),
    "packets of two.avi": ("mpeg4", {"bf": "2", "g": "8"}),
    "vp9.webm": ("libvpx-vp9", {"g": "8", "cpu-used": "8", "deadline": "realtime"}),
    "hidden packets.webm": ("libvpx", {"g": "8", "auto-alt-ref": "1", "lag-in-frames": "8"}),
    "broadcast.ts": ("mpeg2video", {"bf": "2", "g": "8"}),
}
PARTS = [(0, 5, 1), (3, None, 1), (17, 30, 3), (23, 23, 1), (31, 400, 2), (40, None, 1)]


def write(path, codec="libx264", options=None, *, varying=False):
    """A wave that drifts under noise; where they vary, 40 to 1000 ms lie between two images."""
    rng, (y, x), time = np.random.default_rng(0), np.mgrid[:80, :112], 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = 112, 80, "yuv420p"
        if varying:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(IMAGES):
            wave = 90 + 60 * np.sin((x + 2 * y) / 29 + number / 3)[..., None] + rng.integers(0, 60, (80, 112, 3))
            frame = av.VideoFrame.from_ndarray(wave.astype(np.uint8), format="rgb24")
            if varying:
                frame.pts, frame.time_base = time, Fraction(1, 1000)
                time += (40, 125, 310, 80, 1000)[number % 5]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def converted(monkeypatch):
    """How many decoded images became pictures."""
    counted, upright = [], store.clips.decoding._upright
    monkeypatch.setattr(store.clips.decoding, "_upright", lambda frame: counted.append(1) or upright(frame))
    return counted


def check_parts(path):
    whole = read_clip(path)
    assert len(whole) == IMAGES
    for first, last, stride in PARTS:
        part = read_clip(path, first=first, last=last, stride=stride)
        wanted = whole[first : None if last is None else last + 1 : stride]
        np.testing.assert_array_equal(part.images, wanted.images)
        assert part.part == wanted.part
        assert part.fps == wanted.fps


@pytest.mark.parametrize("name", KINDS)
def test_a_part_of_a_file_is_the_slice_of_the_whole(tmp_path, name):
    check_parts(write(tmp_path / name, *KINDS[name]))


@pytest.mark.parametrize("name", ["key images.mp4", "vp9.webm"])
def test_a_part_is_the_slice_of_the_whole_where_images_are_unevenly_spaced(tmp_path, name):
    check_parts(write(tmp_path / name, *KINDS[name], varying=True))


def test_a_long_video_is_not_decoded_whole_for_a_part_of_it(tmp_path, converted, monkeypatch):
    path = write(tmp_path / "long.mp4", *KINDS["key images.mp4"])
    monkeypatch.setattr(store.clips.decoding, "_from_the_beginning", None)  # would decode every image
    assert len(read_clip(path, first=20, last=30, stride=5)) == 3
    assert len(converted) == 3


def test_where_images_have_no_known_times_only_the_part_becomes_pictures(tmp_path, converted):
    path = write(tmp_path / "clip.avi", *KINDS["packets of two.avi"])
    assert store.clips.decoding._sought(path, Wanted(20, 30, 5)) is None
    assert len(read_clip(path, first=20, last=30, stride=5)) == 3
    assert len(converted) == 3


def test_images_are_in_memory_once_while_they_are_stacked():
    images = [np.full((2, 3, 3), number, np.uint8) for number in range(4)]
    assert store.clips.decoding._stacked("clip", images)[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert images == []


def sidecar_clip():
    rng = np.random.default_rng(0)
    tracks, seen = rng.uniform(0, 80, (IMAGES, 4, 2)), rng.random((IMAGES, 4)) > 0.5
    masks = rng.integers(0, 3, (IMAGES, 80, 112)).astype(np.uint8)
    images = np.zeros((IMAGES, 80, 112, 3), np.uint8)
    return Clip(images, 25, tracks, seen, masks, "a ball", "optical flow")


def test_what_lies_beside_a_video_is_cut_like_its_images(tmp_path):
    clip = sidecar_clip()
    path = write_clip(tmp_path / "clip.mp4", clip)
    for first, last, stride in PARTS:
        part = read_clip(path, first=first, last=last, stride=stride)
        wanted = clip[first : None if last is None else last + 1 : stride]
        for name in ("tracks", "visibility", "masks"):
            np.testing.assert_array_equal(getattr(part, name), getattr(wanted, name))
        assert (part.prompt, part.tracks_source) == ("a ball", "optical flow")
        (same,) = read_clips(tmp_path, first=first, last=last, stride=stride).values()
        np.testing.assert_array_equal(same.tracks, part.tracks)


def test_tracks_that_do_not_fit_the_whole_video_are_refused_for_a_part_of_it_too(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", sidecar_clip())
    np.savez(extras_path(path), tracks=np.ones((7, 4, 2)))
    with pytest.raises(ClipError) as caught:
        read_clip(path, last=4)
    assert str(caught.value) == (
        f"{path}.npz does not fit clip.mp4: tracks cover 7 images, the clip has {IMAGES}. Cut one to fit the other."
    )


def test_a_part_of_a_truncated_file_is_refused_like_the_whole(tmp_path):
    path = write(tmp_path / "clip.mkv", *KINDS["key images.mp4"])
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ClipError, match=r"is truncated or not a video: \d+ images decoded"):
        read_clip(path, last=3)


def test_a_part_that_is_not_there_says_which_images_are(tmp_path):
    path = write(tmp_path / "clip.mp4")
    with pytest.raises(ClipError) as caught:
        read_clip(path, first=50, last=60)
    assert str(caught.value) == (
        f"{path} has images 0 to 40; images 50 to 60 were asked for. Begin with image 40 at the latest."
    )
    for wrong, words in [
        ({"first": -1}, "first must be at least 0; got -1."),
        ({"first": 4, "last": 3}, "images 4 to 3 were asked for: last lies before first."),
        ({"stride": 0}, "stride must be at least 1; got 0."),
        ({"last": 2.5}, "last must be an int; got 2.5."),
    ]:
        with pytest.raises(InvalidInputError) as caught:
            read_clip(path, **wrong)
        assert str(caught.value) == words
