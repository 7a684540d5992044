"""TAP-Vid files in their published layouts, as clips; and clips as files that TAP-Vid's tools load."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from store import Clip
from store.datasets.tapvid import iter_tapvid, read_tapvid
from store.datasets.tapvid_raster import from_raster, to_raster
from store.datasets.tapvid_writing import write_tapvid
from store.errors import ClipError, InvalidInputError, OutputExistsError, UnsafePickleError

IMAGES, HEIGHT, WIDTH, POINTS = 3, 24, 40, 5


def entry(seed=0, images=IMAGES, height=HEIGHT, width=WIDTH):
    draw = np.random.default_rng(seed)
    # Smooth, so that a JPEG keeps it.
    video = np.linspace(0, 200, images * height * width * 3).reshape(images, height, width, 3).astype(np.uint8)
    return {
        "video": video,
        "points": draw.random((POINTS, images, 2)).astype(np.float32),
        "occluded": draw.random((POINTS, images)) < 0.4,
    }


def encoded(video, kind="JPEG"):
    files = []
    for image in video:
        file = io.BytesIO()
        Image.fromarray(image).save(file, kind, **({"quality": 95} if kind == "JPEG" else {}))
        files.append(file.getvalue())
    return files


def stored(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def check_against(clip, entry, height=HEIGHT, width=WIDTH, atol=0.0):
    """Pair by pair: a point at a fraction of the width and height lies there in the clip."""
    assert (clip.height, clip.width, clip.fps) == (height, width, 25)
    assert clip.tracks.dtype == np.float64
    for point in range(POINTS):
        for image in range(IMAGES):
            x, y = entry["points"][point, image]
            np.testing.assert_allclose(clip.tracks[image, point], [float(x) * width, float(y) * height], rtol=1e-12)
            assert clip.visibility[image, point] == (not entry["occluded"][point, image])
    if (height, width) == (HEIGHT, WIDTH):
        np.testing.assert_allclose(clip.images.astype(int), entry["video"], atol=atol)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_davis_and_robotap_are_dicts_of_clips(tmp_path, protocol):
    content = {"goat": entry(0), "swan": entry(1)}
    clips = read_tapvid(stored(tmp_path / "tapvid_davis.pkl", content, protocol))
    assert list(clips) == ["goat", "swan"]
    for name, clip in clips.items():
        check_against(clip, content[name])


def test_rgb_stacking_is_a_list_of_clips(tmp_path):
    content = [entry(0), entry(1)]
    clips = read_tapvid(stored(tmp_path / "tapvid_rgb_stacking.pkl", content))
    assert list(clips) == ["000", "001"]
    check_against(clips["001"], content[1])


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("container", [np.array, list, tuple])
def test_kinetics_holds_a_file_an_image(tmp_path, kind, container):
    content = [entry(0)]
    files = encoded(content[0]["video"], kind)
    kinetics = [content[0] | {"video": container(files), "points": content[0]["points"].astype(np.float64)}]
    if container is np.array:
        assert kinetics[0]["video"].dtype.kind == "S"  # what TAP-Vid's own script stores
    clip = read_tapvid(stored(tmp_path / "0000_of_0010.pkl", kinetics))["000"]
    check_against(clip, content[0], atol=8 if kind == "JPEG" else 0)
    assert np.abs(clip.images.astype(int) - content[0]["video"]).mean() < 2


def test_a_list_of_images_and_grey_jpeg(tmp_path):
    content = entry(0)
    grey = io.BytesIO()
    Image.fromarray(content["video"][0, :, :, 0]).save(grey, "JPEG", quality=95)
    mixed = content | {"video": [grey.getvalue(), *content["video"][1:]]}
    clip = read_tapvid(stored(tmp_path / "a.pkl", [mixed]))["000"]
    np.testing.assert_array_equal(clip.images[1:], content["video"][1:])
    assert (clip.images[0] == clip.images[0, :, :, :1]).all()


def test_a_folder_of_pickles(tmp_path):
    stored(tmp_path / "robotap_split1.pkl", {"stack": entry(1), "push": entry(2)})
    stored(tmp_path / "robotap_split0.pkl", {"stack": entry(0)})
    (tmp_path / "README.md").write_text("not a pickle")
    clips = read_tapvid(tmp_path)
    assert list(clips) == ["stack", "robotap_split1/stack", "push"]
    check_against(clips["robotap_split1/stack"], entry(1))


def test_a_folder_of_lists_numbers_clips_behind_their_file(tmp_path):
    for shard in range(2):
        stored(tmp_path / f"{shard:04d}_of_0010.pkl", [entry(shard), entry(5)])
    assert list(read_tapvid(tmp_path)) == [f"{shard:04d}_of_0010/{number:03d}" for shard in (0, 1) for number in (0, 1)]


def test_clips_come_one_at_a_time_and_later_ones_are_not_looked_at(tmp_path):
    stored(tmp_path / "a.pkl", {"good": entry(0), "bad": {}})
    stored(tmp_path / "b.pkl", {"never": entry(0)}).write_bytes(b"no pickle")
    clips = iter_tapvid(tmp_path)
    name, clip = next(clips)
    check_against(clip, entry(0))
    assert name == "good"
    with pytest.raises(ClipError, match="clip 'bad'"):
        next(clips)


def test_memory_stays_at_one_file_and_one_clip(tmp_path):
    """Sixteen clips of 3 MB as JPEG: decoded together they would be 48 MB."""
    one = entry(0, images=16, height=160, width=416)
    stored(tmp_path / "a.pkl", 16 * [one | {"video": np.array(encoded(one["video"]))}])
    tracemalloc.start()
    try:
        assert sum(len(clip) for _, clip in iter_tapvid(tmp_path)) == 256
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * one["video"].nbytes


@pytest.mark.parametrize("jpeg", [False, True])
def test_size_resizes_images_and_points(tmp_path, jpeg):
    content = entry(0)
    plain = stored(tmp_path / "a.pkl", {"goat": content})
    files = stored(tmp_path / "b.pkl", {"goat": content | {"video": encoded(content["video"], "PNG")}})
    clip = read_tapvid(files if jpeg else plain, size=(15, 50))["goat"]
    check_against(clip, content, height=15, width=50)
    whole = read_tapvid(plain)["goat"].resized(15, 50)
    np.testing.assert_array_equal(clip.images, whole.images)
    np.testing.assert_allclose(clip.tracks, whole.tracks, rtol=1e-12)


def test_clips_own_their_memory(tmp_path):
    clip = read_tapvid(stored(tmp_path / "a.pkl", {"goat": entry(0)}))["goat"]
    assert type(clip.images) is np.ndarray
    assert clip.images.base is None
    clip.images[0] = 7


def test_hidden_points_that_are_not_finite_come_back_at_the_corner(tmp_path):
    content = entry(0)
    content["occluded"][2, 1] = True
    content["points"][2, 1] = np.nan
    clip = read_tapvid(stored(tmp_path / "a.pkl", {"goat": content}))["goat"]
    assert clip.tracks[1, 2].tolist() == [0, 0]
    assert not clip.visibility[1, 2]


def spoilt(**change):
    return {"goat": entry(0) | change}


def without(key):
    return {"goat": {name: value for name, value in entry(0).items() if name != key}}


NAN = np.where(np.arange(POINTS * IMAGES * 2).reshape(POINTS, IMAGES, 2) == 8, np.nan, 0.5).astype(np.float32)
SEEN = np.zeros((POINTS, IMAGES), bool)
NEEDS = "It needs a dict with video, points, occluded"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (3, " does not have a TAP-Vid layout: it needs a dict or a list of clips; got int."),
        ({}, " holds no clips."),
        ([], " holds no clips."),
        ({3: entry(0)}, " does not have a TAP-Vid layout: a clip is named by int, not by a string."),
        (entry(0), f", clip 'video': video, points, occluded missing. {NEEDS}; got uint8 of shape (3, 24, 40, 3)."),
        (without("points"), f", clip 'goat': points missing. {NEEDS}; got the keys video, occluded."),
        ([7], f", clip '000': video, points, occluded missing. {NEEDS}; got int."),
        (
            spoilt(points=np.zeros((POINTS, 4, 2), np.float32), occluded=np.zeros((POINTS, 4), bool)),
            ", clip 'goat': tracks cover 4 images, the clip has 3. Cut one to fit the other.",
        ),
        (
            spoilt(points=np.zeros((POINTS, IMAGES, 3), np.float32)),
            ", clip 'goat': points must be floats (point, image, 2); got float32 of shape (5, 3, 3).",
        ),
        (
            spoilt(points=np.zeros((POINTS, IMAGES, 2), np.uint8)),
            ", clip 'goat': points must be floats (point, image, 2); got uint8 of shape (5, 3, 2).",
        ),
        (spoilt(points=[[0.5]]), ", clip 'goat': points must be floats (point, image, 2); got list."),
        (
            spoilt(occluded=np.zeros((POINTS, IMAGES), np.uint8)),
            ", clip 'goat': occluded must be bool (point, image) = (5, 3) like the points; got uint8 of shape (5, 3).",
        ),
        (
            spoilt(occluded=np.zeros((IMAGES, POINTS), bool)),
            ", clip 'goat': occluded must be bool (point, image) = (5, 3) like the points; got bool of shape (3, 5).",
        ),
        (
            spoilt(points=NAN, occluded=SEEN),
            ", clip 'goat': 1 visible points are not finite, first point 1 in image 1. Mark them in occluded.",
        ),
        (
            spoilt(points=np.full((POINTS, IMAGES, 2), 431.5, np.float32), occluded=SEEN),
            ", clip 'goat': points reach 431.5, but TAP-Vid stores fractions of width and height. Divide them.",
        ),
        (
            spoilt(video=np.zeros((IMAGES, HEIGHT, WIDTH), np.uint8)),
            ", clip 'goat': video must be uint8 (image, y, x, 3), or one JPEG or PNG file per image; "
            "got uint8 of shape (3, 24, 40).",
        ),
        (
            spoilt(video=np.zeros((IMAGES, HEIGHT, WIDTH, 3), np.float32)),
            ", clip 'goat': video must be uint8 (image, y, x, 3), or one JPEG or PNG file per image; "
            "got float32 of shape (3, 24, 40, 3).",
        ),
        (
            spoilt(video=np.zeros((IMAGES, HEIGHT, WIDTH, 4), np.uint8)),
            ", clip 'goat', image 0 must be uint8 (y, x, 3), or a JPEG or PNG file; got uint8 of shape (24, 40, 4).",
        ),
        (spoilt(video=[]), ", clip 'goat': the clip has no images."),
        (
            spoilt(video=["a.jpg"]),
            ", clip 'goat', image 0 must be uint8 (y, x, 3), or a JPEG or PNG file; got str.",
        ),
        (
            spoilt(video=[b"GIF89a"]),
            ", clip 'goat', image 0 cannot be decoded as JPEG or PNG (6 bytes).",
        ),
        (
            spoilt(video=[entry(0)["video"][0], entry(0)["video"][0, 1:]]),
            ", clip 'goat': image 1 has the shape (23, 40, 3), image 0 has (24, 40, 3).",
        ),
    ],
)
def test_what_is_no_tapvid_file_is_named(tmp_path, content, message):
    path = stored(tmp_path / "a.pkl", content)
    with pytest.raises(ClipError) as caught:
        read_tapvid(path)
    assert str(caught.value) == f"{path}{message}"


def test_a_cut_jpeg_is_named(tmp_path):
    files = encoded(entry(0)["video"])
    files[1] = files[1][: len(files[1]) // 2]
    path = stored(tmp_path / "a.pkl", spoilt(video=files))
    with pytest.raises(ClipError, match=r"image 1 cannot be decoded as JPEG or PNG \(\d+ bytes\)"):
        read_tapvid(path)


def test_a_cut_file_and_no_file(tmp_path):
    path = stored(tmp_path / "a.pkl", {"goat": entry(0)})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ClipError, match="is damaged or no pickle of arrays"):
        read_tapvid(path)
    with pytest.raises(ClipError, match=r"none does not exist\. Name a TAP-Vid pickle or a folder of them"):
        iter_tapvid(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ClipError, match=r"empty holds no TAP-Vid pickle \(\*.pkl\)"):
        iter_tapvid(tmp_path / "empty")
    with pytest.raises(InvalidInputError, match=r"size must be \(height, width\) in whole pixels; got \(0, 4\)"):
        iter_tapvid(path, size=(0, 4))


class Touch:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_code_in_a_clip_does_not_run(tmp_path):
    sentinel = tmp_path / "ran"
    path = stored(tmp_path / "tapvid_davis.pkl", {"goat": entry(0), "swan": entry(1) | {"video": Touch(sentinel)}})
    clips = iter_tapvid(path)
    with pytest.raises(UnsafePickleError) as caught:
        next(clips)
    assert str(caught.value) == (
        f"{path} asks for {open.__module__}.open, which no TAP-Vid file needs; nothing was run."
    )
    assert not sentinel.exists()
    pickle.loads(path.read_bytes())
    assert sentinel.exists()


def clip_with_tracks(seed=0):
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 256, (IMAGES, HEIGHT, WIDTH, 3)).astype(np.uint8)
    tracks = draw.uniform(-10, 50, (IMAGES, POINTS, 2)).astype(np.float32)
    return Clip(images, 8, tracks, draw.random((IMAGES, POINTS)) < 0.5)


def test_clips_come_back_from_what_was_written(tmp_path):
    clips = {"goat": clip_with_tracks(0), "swan": clip_with_tracks(1)}
    back = read_tapvid(write_tapvid(tmp_path / "deep" / "er.pkl", clips))
    assert list(back) == list(clips)
    for name, clip in clips.items():
        np.testing.assert_array_equal(back[name].images, clip.images)
        np.testing.assert_allclose(back[name].tracks, clip.tracks, atol=1e-4)
        np.testing.assert_array_equal(back[name].visibility, clip.visibility)
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["er.pkl"]


def test_a_plain_pickle_load_finds_the_davis_layout(tmp_path):
    clip = clip_with_tracks(0)
    content = write_tapvid(tmp_path / "a.pkl", {"goat": clip}).read_bytes()
    goat = pickle.loads(content)["goat"]
    assert [(name, value.dtype.str, value.shape) for name, value in goat.items()] == [
        ("video", "|u1", (IMAGES, HEIGHT, WIDTH, 3)),
        ("points", "<f4", (POINTS, IMAGES, 2)),
        ("occluded", "|b1", (POINTS, IMAGES)),
    ]
    assert all(type(value) is np.ndarray and value.flags.writeable for value in goat.values())
    for point in range(POINTS):
        for image in range(IMAGES):
            np.testing.assert_allclose(
                goat["points"][point, image] * [WIDTH, HEIGHT], clip.tracks[image, point], atol=1e-4
            )
            assert goat["occluded"][point, image] != clip.visibility[image, point]
    texts = [value for code, value, _ in pickletools.genops(content) if code.name == "SHORT_BINUNICODE"]
    names = {"goat", "video", "points", "occluded", "|u1", "<f4", "|b1"}
    assert set(texts) - names == {"numpy", "ndarray"}  # of any version: no module that numpy moved


def test_a_clip_without_points_can_be_written(tmp_path):
    clip = Clip(np.zeros((IMAGES, HEIGHT, WIDTH, 3), np.uint8), 8, np.zeros((IMAGES, 0, 2)))
    assert read_tapvid(write_tapvid(tmp_path / "a.pkl", {"goat": clip}))["goat"].tracks.shape == (IMAGES, 0, 2)


def test_writing_bad_input_is_refused(tmp_path):
    path, bare = tmp_path / "a.pkl", Clip(np.zeros((IMAGES, HEIGHT, WIDTH, 3), np.uint8), 8)
    for clips, message in [
        ({}, "clips must be a dict of Clips by name with at least one; got dict."),
        ([bare], "clips must be a dict of Clips by name with at least one; got list."),
        ({"goat": bare}, "clip 'goat' has no tracks, and a TAP-Vid file is about tracks. Leave it out."),
        ({3: clip_with_tracks()}, "clip names must be strings; got 3."),
    ]:
        with pytest.raises(InvalidInputError) as caught:
            write_tapvid(path, clips)
        assert str(caught.value) == message
    write_tapvid(path, {"goat": clip_with_tracks(0)})
    with pytest.raises(OutputExistsError) as taken:
        write_tapvid(path, {"goat": clip_with_tracks(1)})
    assert (
        str(taken.value)
        == f"{path} exists already. Choose another path for the TAP-Vid clips, or pass overwrite=True to replace it."
    )
    write_tapvid(path, {"swan": clip_with_tracks(1)}, overwrite=True)
    assert list(read_tapvid(path)) == ["swan"]


def test_the_raster_is_the_clip_at_256_pixels():
    clip = clip_with_tracks(0)
    np.testing.assert_allclose(to_raster(clip.tracks, clip), clip.resized(256, 256).tracks, rtol=1e-6)
    np.testing.assert_allclose(from_raster(to_raster(clip.tracks, clip), clip), clip.tracks, rtol=1e-12)
    corners = to_raster([[0, 0], [WIDTH, HEIGHT], [0.5, 0.5]], clip)
    # The centre of the upper left pixel of the clip is that of the patch of raster pixels it covers.
    np.testing.assert_allclose(corners, [[0, 0], [256, 256], [128 / WIDTH, 128 / HEIGHT]])


def test_raster_points_are_the_stored_fractions_times_256(tmp_path):
    content = entry(0)
    clip = read_tapvid(stored(tmp_path / "a.pkl", {"goat": content}))["goat"]
    wanted = content["points"].swapaxes(0, 1).astype(np.float64) * 256
    np.testing.assert_allclose(to_raster(clip.tracks, clip), wanted, rtol=1e-14)
    exact = read_tapvid(tmp_path / "a.pkl", size=(256, 256))["goat"]
    np.testing.assert_array_equal(exact.tracks, wanted)
    np.testing.assert_array_equal(to_raster(exact.tracks, exact), wanted)


def test_points_that_are_no_positions_are_refused():
    for convert in (to_raster, from_raster):
        with pytest.raises(InvalidInputError, match=r"points need the shape \(..., 2\), as \(x, y\); got \(4, 3\)"):
            convert(np.zeros((4, 3)), clip_with_tracks())


def png(height, width):
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG", compress_level=9)
    return file.getvalue()


@pytest.mark.parametrize(
    ("count", "height", "width", "size"),
    [(20_000, 200, 200, None), (5, 5000, 5000, None), (50_000, 2, 2, (256, 256))],
)
def test_pictures_that_would_fill_the_memory_are_refused(tmp_path, count, height, width, size):
    one = entry(0) | {"video": count * [png(height, width)]}
    path = stored(tmp_path / "a.pkl", {"goat": one})
    with pytest.raises(ClipError, match=r"its images would have|cannot be decoded"):
        read_tapvid(path, size=size)


def test_a_picture_that_claims_gigabytes_is_not_decoded(tmp_path):
    content = bytearray(png(2, 2))
    content[16:24] = struct.pack(">II", 20_000, 20_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    with pytest.raises(ClipError, match=r"image 0 cannot be decoded as JPEG or PNG"):
        read_tapvid(stored(tmp_path / "a.pkl", [entry(0) | {"video": [bytes(content)]}]))


def test_one_clip_under_many_names_is_counted_each_time(tmp_path):
    one = entry(0) | {"video": 3 * [png(1500, 1500)]}
    path = stored(tmp_path / "a.pkl", {f"clip {n}": one for n in range(50)})
    with pytest.raises(ClipError, match=r"its images would have"):
        for _ in iter_tapvid(path):
            pass


def test_what_is_written_is_a_pickle_for_every_other_tool(tmp_path):
    clip = Clip(entry(0)["video"], 25, np.ones((IMAGES, POINTS, 2)))
    path = write_tapvid(tmp_path / "a.pkl", {"goat": clip})
    np.testing.assert_array_equal(pickle.loads(path.read_bytes())["goat"]["video"], clip.images)
