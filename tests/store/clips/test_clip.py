import pickle

import av
import numpy as np
import pytest

from store import Clip, read_clip, write_clip
from store.clips.clip import Part
from store.clips.video import extras_path
from store.errors import ClipError, InvalidInputError, OutputExistsError, UnsafePickleError


def smooth_images(images=9, height=80, width=112):
    """Slow waves of colour, different along every axis: what a codec keeps well."""
    t, y, x = np.meshgrid(np.arange(images), np.arange(height), np.arange(width), indexing="ij")
    waves = [np.sin(x / 17 + t / 3), np.sin(y / 11 - t / 5), np.sin((x + 2 * y) / 29)]
    return np.stack([127 + 100 * wave for wave in waves], axis=-1).astype(np.uint8)


def full_clip(images=9, height=80, width=112):
    rng = np.random.default_rng(0)
    return Clip(
        smooth_images(images, height, width),
        fps=12.5,
        tracks=rng.uniform(-20, 130, (images, 4, 2)).astype(np.float32),
        visibility=rng.random((images, 4)) > 0.5,
        masks=rng.integers(0, 3, (images, height, width)).astype(np.uint8),
        prompt="a <red> ball, „très joli“",
    )


IMAGES = np.zeros((9, 80, 112, 3), np.uint8)
TRACKS = np.ones((9, 4, 2))


def nan_tracks():
    tracks = TRACKS.copy()
    tracks[2, 3, 1] = np.nan
    tracks[5, 0, 0] = np.inf
    return tracks


BAD = [
    (lambda: Clip(IMAGES[0], 8), "images must be a uint8 array (image, y, x, 3); got uint8 of shape (80, 112, 3)."),
    (
        lambda: Clip(IMAGES.astype(float), 8),
        "images must be a uint8 array (image, y, x, 3); got float64 of shape (9, 80, 112, 3).",
    ),
    (lambda: Clip([1, 2], 8), "images must be a uint8 array (image, y, x, 3); got list."),
    (lambda: Clip(IMAGES[:0], 8), "the clip has no images: its shape is (0, 80, 112, 3)."),
    (lambda: Clip(IMAGES, 0), "fps must be a positive number; got 0."),
    (
        lambda: Clip(IMAGES, 8, TRACKS[:7]),
        "tracks cover 7 images, the clip has 9. Cut one to fit the other.",
    ),
    (
        lambda: Clip(IMAGES, 8, TRACKS[..., :1]),
        "tracks must be numbers (image, point, 2); got float64 of shape (9, 4, 1).",
    ),
    (
        lambda: Clip(IMAGES, 8, nan_tracks()),
        "tracks are not finite in 2 places, first at image 2, point 3. Give hidden points a position and mark them in "
        "visibility.",
    ),
    (
        lambda: Clip(IMAGES, 8, TRACKS, np.ones((9, 5), bool)),
        "visibility must be bool (image, point) = (9, 4) like the tracks; got bool of shape (9, 5).",
    ),
    (
        lambda: Clip(IMAGES, 8, TRACKS, np.ones((9, 4))),
        "visibility must be bool (image, point) = (9, 4) like the tracks; got float64 of shape (9, 4).",
    ),
    (
        lambda: Clip(IMAGES, 8, visibility=np.ones((9, 4), bool)),
        "visibility was given without tracks. Pass the tracks it belongs to.",
    ),
    (
        lambda: Clip(IMAGES, 8, masks=np.zeros((7, 80, 112), bool)),
        "masks must be bool or uint8 of shape (9, 80, 112), or (1, 80, 112) for image 0 alone; "
        "got bool of shape (7, 80, 112).",
    ),
    (lambda: Clip(IMAGES, 8).window(3, 3), "window 3 to 3 does not lie within the 9 images of the clip."),
    (lambda: Clip(IMAGES, 8).window(3, 10), "window 3 to 10 does not lie within the 9 images of the clip."),
    (lambda: Clip(IMAGES, 8).resized(0, 7), "a clip needs at least 1 x 1 pixels; got height 0 and width 7."),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_input(call, message):
    with pytest.raises(ClipError) as caught:
        call()
    assert str(caught.value) == message


def test_tracks_without_visibility_are_seen_everywhere_and_integers_become_floats():
    clip = Clip(IMAGES, 8, TRACKS.astype(int))
    assert clip.visibility.shape == (9, 4)
    assert clip.visibility.all()
    assert clip.tracks.dtype == np.float32


def test_repr():
    assert repr(Clip(IMAGES[:1], 8)) == "Clip(1 image of 80 x 112 px (height x width) at 8 fps)"
    visibility = np.zeros((9, 4), bool)
    visibility[:, 0] = True
    clip = Clip(IMAGES, 29.97, TRACKS, visibility, np.zeros((1, 80, 112), bool), "word " * 20)
    assert repr(clip) == (
        "Clip(9 images of 80 x 112 px (height x width) at 29.97 fps, 4 tracked points (25 % visible), mask of image 0, "
        "prompt 'word word word word word word word word word word word word…')"
    )


def test_window_cuts_everything():
    clip = full_clip()
    part = clip.window(2, 7)
    np.testing.assert_array_equal(part.images, clip.images[2:7])
    np.testing.assert_array_equal(part.tracks, clip.tracks[2:7])
    np.testing.assert_array_equal(part.visibility, clip.visibility[2:7])
    np.testing.assert_array_equal(part.masks, clip.masks[2:7])
    assert (part.fps, part.prompt) == (clip.fps, clip.prompt)


def test_a_mask_of_image_0_stays_only_in_windows_that_start_there():
    clip = Clip(IMAGES, 8, masks=np.ones((1, 80, 112), bool))
    assert clip.window(0, 5).masks.shape == (1, 80, 112)
    assert clip.window(1, 5).masks is None


def test_resized_scales_tracks_with_the_picture():
    images = np.zeros((2, 80, 112, 3), np.uint8)
    images[:, 40:48, 56:70] = 255  # a box whose corner and middle are tracked
    masks = images[..., 0] > 0
    clip = Clip(images, 8, tracks=np.tile([[56.0, 40.0], [63.0, 44.0]], (2, 1, 1)), masks=masks)
    small = clip.resized(20, 56)
    assert (small.height, small.width) == (20, 56)
    np.testing.assert_allclose(small.tracks[1], [[28.0, 10.0], [31.5, 11.0]])
    y, x = np.nonzero(small.images[0, :, :, 0] > 127)
    assert (y.min(), y.max() + 1, x.min(), x.max() + 1) == (10, 12, 28, 35)
    assert small.masks.dtype == bool
    assert small.masks[0].sum() == 2 * 7
    assert clip.resized(80, 112) is clip


def test_resized_is_antialiased():
    stripes = np.zeros((1, 80, 112, 3), np.uint8)
    stripes[:, :, ::2] = 255
    middle = Clip(stripes, 8).resized(20, 28).images[0, 2:-2, 2:-2]
    assert np.abs(middle.astype(int) - 127).max() <= 8


def test_a_slice_cuts_everything_that_belongs_to_the_images():
    clip = full_clip(9)
    part = clip[1:8:3]
    for name in ("images", "tracks", "visibility", "masks"):
        np.testing.assert_array_equal(getattr(part, name), getattr(clip, name)[1:8:3])
    assert part.fps == clip.fps / 3
    assert part.prompt == clip.prompt
    assert part.part == Part(1, 3, 9)
    assert part[1:].part == Part(4, 3, 9)
    assert clip[:].part is None
    assert np.shares_memory(part.images, clip.images)


def test_a_slice_keeps_the_mask_of_image_0_with_image_0():
    clip = Clip(IMAGES, 8, masks=np.ones((1, 80, 112), bool))
    assert clip[::4].masks.shape == (1, 80, 112)
    assert clip[2:].masks is None


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (9, "image 9 does not exist: the clip has images 0 to 8."),
        ("3", "a clip is cut by a slice, such as clip[3:20:2], or asked for an image by its number; got '3'."),
        (slice(None, None, -1), "a clip is cut forward in time; got a slice with the stride -1."),
        (slice(20, 30), "the slice 20:30 of a clip of 9 images is empty. Cut out at least one."),
    ],
)
def test_a_slice_that_is_no_clip(cut, message):
    with pytest.raises((InvalidInputError, ClipError)) as caught:
        full_clip(9)[cut]
    assert str(caught.value) == message


def test_a_part_that_the_video_does_not_have():
    with pytest.raises(ClipError, match="image 17 is named as a part of a video of 9 images"):
        Clip(IMAGES, 8, part=Part(1, 2, 9))


def test_estimated_tracks_say_whose_they_are(tmp_path):
    clip = Clip(smooth_images(), 8, tracks=TRACKS, tracks_source="optical flow")
    assert "4 points tracked by optical flow (100 % visible)" in repr(clip)
    assert read_clip(write_clip(tmp_path / "clip.mp4", clip)).tracks_source == "optical flow"
    assert clip.resized(40, 56)[1:3].tracks_source == "optical flow"
    with pytest.raises(ClipError, match="'optical flow' was given without tracks"):
        Clip(IMAGES, 8, tracks_source="optical flow")


@pytest.mark.parametrize("size", [(80, 112), (160, 224), (81, 111), (33, 46)])
def test_a_written_clip_comes_back(tmp_path, size):
    clip = full_clip(9, *size)
    back = read_clip(write_clip(tmp_path / "deep" / "clip.mp4", clip))
    difference = np.abs(back.images.astype(int) - clip.images)
    assert difference.mean() < 1.5
    assert difference.max() <= 16
    assert back.fps == 12.5
    for name in ("tracks", "visibility", "masks"):
        np.testing.assert_array_equal(getattr(back, name), getattr(clip, name))
        assert getattr(back, name).dtype == getattr(clip, name).dtype
    assert back.prompt == clip.prompt
    assert sorted(file.name for file in (tmp_path / "deep").iterdir()) == ["clip.mp4", "clip.mp4.npz"]


@pytest.mark.parametrize("size", [(80, 112), (33, 46)])
def test_small_pictures_come_back_within_two_levels_and_the_same_every_time(tmp_path, size):
    noise = np.random.default_rng(0).integers(0, 256, (5, *size, 3)).astype(np.uint8)
    back = [read_clip(write_clip(tmp_path / f"{n}.mp4", Clip(noise, 8), crf=30)).images for n in range(3)]
    assert np.abs(back[0].astype(int) - noise).max() <= 3
    for again in back[1:]:
        np.testing.assert_array_equal(again, back[0])


def test_colours_are_halved_only_where_players_gain_and_pictures_do_not_lose(tmp_path):
    formats = {}
    for size in [(160, 224), (80, 112), (161, 224)]:
        with av.open(str(write_clip(tmp_path / f"{size[0]}.mp4", Clip(smooth_images(3, *size), 8)))) as container:
            formats[size] = container.streams.video[0].codec_context.pix_fmt
    assert formats == {(160, 224): "yuv420p", (80, 112): "yuv444p", (161, 224): "yuv444p"}


def test_a_plain_clip_writes_no_npz_and_removes_a_stale_one(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", full_clip())
    with pytest.raises(OutputExistsError) as caught:
        write_clip(path, full_clip())
    assert str(caught.value) == (
        f"{path} and {path}.npz exist already. Choose another path for the clip, or pass overwrite=True to "
        "replace them."
    )
    write_clip(path, Clip(smooth_images(), 8), overwrite=True)
    assert not extras_path(path).exists()
    assert read_clip(path).tracks is None


@pytest.mark.parametrize("name", ["clip.gif", "clip.webm", "clip.txt", "clip"])
def test_a_suffix_that_cannot_be_written_leaves_nothing(tmp_path, name):
    with pytest.raises(InvalidInputError) as caught:
        write_clip(tmp_path / "new" / name, Clip(smooth_images(), 8))
    assert str(caught.value) == (
        f"{tmp_path}/new/{name} cannot hold the clip: its suffix must be .mp4, .mov, .m4v, .mkv or .avi. "
        f"Name it {tmp_path}/new/clip.mp4."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(ClipError, match=r"the clip cannot be written as \.mp4: .*\. Name the file \.mp4\."):
        write_clip(tmp_path / "clip.mp4", Clip(smooth_images(3, 160, 224), 8), crf="no number")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["clip.mp4", "CLIP.MP4", "clip.mov", "clip.m4v", "clip.mkv", "clip.avi"])
def test_every_suffix_that_can_be_written_comes_back_without_a_word(tmp_path, name, caplog, capfd):
    clip = Clip(smooth_images(9, 160, 224), 12.5)
    back = read_clip(write_clip(tmp_path / name, clip))
    assert np.abs(back.images.astype(int) - clip.images).mean() < 1.5
    assert back.fps == 12.5
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")


class TestBadFiles:
    def test_missing_folder_and_no_video(self, tmp_path):
        with pytest.raises(ClipError, match=r"nowhere\.mp4 is missing; a video file is needed"):
            read_clip(tmp_path / "nowhere.mp4")
        with pytest.raises(ClipError, match="is a folder; a video file is needed"):
            read_clip(tmp_path)
        (tmp_path / "text.mp4").write_text("no video at all")
        with pytest.raises(ClipError) as caught:
            read_clip(tmp_path / "text.mp4")
        assert str(caught.value) == (
            f"{tmp_path}/text.mp4 is truncated or not a video: 0 images decoded of an unknown number (FFmpeg says: "
            f"Invalid data found when processing input). Get the whole file."
        )

    @pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.99])
    def test_truncated(self, tmp_path, share):
        path = write_clip(tmp_path / "clip.mp4", Clip(smooth_images(9, 160, 224), 8))
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(ClipError, match=r"clip\.mp4 is truncated or not a video: \d images? decoded of"):
            read_clip(path)

    def test_truncated_states_decoded_and_expected(self, tmp_path):
        path = write_clip(tmp_path / "clip.mp4", Clip(smooth_images(9, 160, 224), 8))
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(ClipError, match=r"[1-8] images decoded of 9 expected"):
            read_clip(path)

    def test_no_images(self, tmp_path):
        with av.open(str(tmp_path / "empty.mkv"), "w") as container:
            stream = container.add_stream("libx264", rate=8)
            stream.width, stream.height, stream.pix_fmt = 112, 80, "yuv420p"
            container.start_encoding()
        with pytest.raises(ClipError, match=r"0 (images )?(were )?decoded of"):
            read_clip(tmp_path / "empty.mkv")

    def test_sound_only(self, tmp_path):
        with av.open(str(tmp_path / "sound.wav"), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000)
            stream.layout = "mono"
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
        with pytest.raises(ClipError, match=r"sound\.wav holds no video stream"):
            read_clip(tmp_path / "sound.wav")

    def test_extras_that_do_not_fit(self, tmp_path):
        path = write_clip(tmp_path / "clip.mp4", Clip(smooth_images(), 8))
        np.savez(extras_path(path), tracks=TRACKS[:7])
        with pytest.raises(ClipError) as caught:
            read_clip(path)
        assert str(caught.value) == (
            f"{path}.npz does not fit clip.mp4: tracks cover 7 images, the clip has 9. Cut one to fit the other."
        )

    def test_a_pickle_beside_the_video_is_refused_unread(self, tmp_path):
        path = write_clip(tmp_path / "clip.mp4", Clip(smooth_images(), 8))
        np.savez(extras_path(path), tracks=np.array([{"a": 1}], dtype=object))
        with pytest.raises(UnsafePickleError, match="holds pickled objects and was not read"):
            read_clip(path)
        extras_path(path).write_bytes(pickle.dumps({"tracks": 1}))
        with pytest.raises((UnsafePickleError, ClipError), match="npz"):
            read_clip(path)
        extras_path(path).write_bytes(b"PK\3\4 cut off")
        with pytest.raises(ClipError, match="cannot be read as an npz file"):
            read_clip(path)


def test_rotation_noted_in_the_file_is_applied(tmp_path):
    images = smooth_images(2, 160, 224)
    with av.open(str(tmp_path / "phone.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 224, 160, "yuv420p"
        stream.set_display_rotation(90)
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    clip = read_clip(tmp_path / "phone.mp4")
    assert (clip.height, clip.width) == (224, 160)
    back = np.abs(clip.images[0].astype(int) - np.rot90(images[0])).mean()
    assert back < 5
