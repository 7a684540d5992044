import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from store import Clip, read_clips, read_difftrack, read_mtbench, tracks_without_video, write_clip
from store.errors import ClipError, UnsafePickleError

DATA = Path(os.environ.get("DITPROBE_DATA", Path(__file__).parents[3].parent / "shared" / "data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no real clips: set DITPROBE_DATA to a folder that has them")


def video(path, images=5, height=80, width=112):
    return write_clip(path, Clip(np.full((images, height, width, 3), 90, np.uint8), 8))


def difftrack_folder(folder, names=("000", "001"), videos=("001",), images=5):
    (folder / "tracks").mkdir(parents=True)
    (folder / "visibility").mkdir()
    for number, name in enumerate(names):
        np.save(folder / "tracks" / f"{name}.npy", np.full((1, 5, 4, 2), number, np.float32))
        np.save(folder / "visibility" / f"{name}.npy", np.arange(20).reshape(1, 5, 4) % 3 == 0)
    (folder / "prompt.txt").write_text("first\nsecond\n")
    for name in videos:
        video(folder / f"{name}.mp4", images)
    return folder


def mtbench_entry(folder, name="dance", masks=5):
    video(folder / "videos" / f"{name}.mp4")
    (folder / "masks" / name).mkdir(parents=True)
    for number in range(masks):
        mask = np.zeros((80, 112), np.uint8)
        mask[number] = 255
        Image.fromarray(mask).save(folder / "masks" / name / f"{number:05d}.png")
    (folder / "trajectories").mkdir()
    trajectories = torch.tensor([0.5, 0.25, 1.0]).repeat(5, 4, 1)
    trajectories[3, 2, 2] = 0
    torch.save(trajectories, folder / "trajectories" / f"{name}.pth")
    for kind, line in [("videos", f"{name}.mp4"), ("masks", name), ("trajectories", f"{name}.pth")]:
        (folder / f"{kind}.txt").write_text(f"{kind}/{line}")
    (folder / "prompts.txt").write_text("A dancer.\n")
    return folder


def test_difftrack(tmp_path):
    folder = difftrack_folder(tmp_path / "fg")
    clips = read_difftrack(folder)
    assert list(clips) == ["001"]
    assert clips["001"].prompt == "second"
    assert clips["001"].tracks.shape == (5, 4, 2)
    assert (clips["001"].tracks == 1).all()
    assert clips["001"].visibility.sum() == 7
    assert tracks_without_video(folder) == ["000"]


def test_difftrack_without_any_video(tmp_path):
    folder = difftrack_folder(tmp_path / "bg", videos=())
    with pytest.raises(ClipError) as caught:
        read_difftrack(folder)
    assert str(caught.value) == (f"{folder} has tracks for 000 to 001 but no video. Put 000.mp4 next to tracks/.")


def test_difftrack_video_of_another_length(tmp_path):
    folder = difftrack_folder(tmp_path / "fg", images=4)
    with pytest.raises(ClipError) as caught:
        read_difftrack(folder)
    assert str(caught.value) == (f"{folder}/001: tracks cover 5 images, the clip has 4. Cut one to fit the other.")


def test_difftrack_pickle_is_refused(tmp_path):
    folder = difftrack_folder(tmp_path / "fg")
    np.save(folder / "tracks" / "001.npy", np.array([{}], dtype=object))
    with pytest.raises(UnsafePickleError, match="holds pickled objects and was not read"):
        read_difftrack(folder)
    (folder / "tracks" / "001.npy").write_bytes(b"")
    with pytest.raises(ClipError, match="cannot be read as an npy file"):
        read_difftrack(folder)


def test_mtbench_entry(tmp_path):
    clip = read_mtbench(mtbench_entry(tmp_path / "entry"))["dance"]
    assert clip.prompt == "A dancer."
    np.testing.assert_allclose(clip.tracks[1, 2], [56.0, 20.0])  # fractions of width, then of height
    assert clip.visibility.sum() == 19
    assert not clip.visibility[3, 2]


@pytest.mark.parametrize(("masks", "kept"), [(5, 5), (8, 5), (3, 1)])
def test_mtbench_masks_are_used_only_where_they_fit(tmp_path, masks, kept):
    clip = read_mtbench(mtbench_entry(tmp_path / "entry", masks=masks))["dance"]
    assert clip.masks.shape == (kept, 80, 112)
    assert [int(np.flatnonzero(mask.any(1))[0]) for mask in clip.masks] == list(range(kept))


def test_mtbench_parent_folder(tmp_path):
    for name in ("b", "a"):
        mtbench_entry(tmp_path / name, name)
    assert list(read_mtbench(tmp_path)) == ["a", "b"]


def test_the_same_name_in_two_folders_is_told_apart(tmp_path):
    for name in ("a", "b"):
        mtbench_entry(tmp_path / name, "dance")
    assert list(read_clips(tmp_path)) == ["dance", "b/dance"]


def test_two_videos_of_one_name_in_an_entry_keep_their_paths(tmp_path):
    folder = mtbench_entry(tmp_path / "entry")
    video(folder / "videos" / "dance.mkv", images=4)
    (folder / "videos.txt").write_text("videos/dance.mp4\nvideos/dance.mkv\n")
    clips = read_mtbench(folder)
    assert {name: len(clip) for name, clip in clips.items()} == {"videos/dance.mp4": 5, "videos/dance.mkv": 4}
    (folder / "videos.txt").write_text("videos/dance.mp4\n\nvideos/dance.mp4\n")
    with pytest.raises(ClipError) as caught:
        read_mtbench(folder)
    assert str(caught.value) == f"{folder}/videos.txt names 'videos/dance.mp4' twice. Name every video once."


def test_trajectories_that_are_damaged_are_told_from_unsafe_ones(tmp_path):
    file = mtbench_entry(tmp_path / "entry") / "trajectories" / "dance.pth"
    whole = file.read_bytes()
    cuts = [whole[:length] for length in (0, 100, len(whole) // 2, len(whole) - 30)]
    for data in (*cuts, b"no torch file at all\n", b"\x80\x02cos\nsys"):
        file.write_bytes(data)
        with pytest.raises(ClipError) as caught:
            read_mtbench(tmp_path / "entry")
        assert str(caught.value).startswith(f"{file} is damaged or no torch file: ")
        assert str(caught.value).endswith(". Get it again.")
        assert "weights_only" not in str(caught.value)
    for code in (pickle.dumps(print), pickle.dumps(Path("anything"), protocol=2)):
        file.write_bytes(code)
        with pytest.raises(UnsafePickleError) as caught:
            read_mtbench(tmp_path / "entry")
        assert str(caught.value) == f"{file} holds more than tensors and was not read."


POINTS = torch.tensor([0.5, 0.25, 1.0]).repeat(5, 4, 1)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("sparse", POINTS.to_sparse()),
        ("meta", POINTS.to("meta")),
        ("nested", torch.nested.nested_tensor([POINTS[0], POINTS[1]], layout=torch.jagged)),
        ("complex", POINTS.to(torch.complex64)),
        ("one number for all", torch.ones(1).expand(5, 4, 3)),
        ("a terabyte of one number", torch.ones(1).expand(5, 1 << 36, 3)),
    ],
)
def test_trajectories_that_are_no_plain_numbers_are_refused(tmp_path, kind, values):
    file = mtbench_entry(tmp_path / "entry") / "trajectories" / "dance.pth"
    torch.save(values, file)
    with pytest.raises(ClipError, match=r"dance\.pth (must hold plain numbers|must be a tensor|is damaged)"):
        read_mtbench(tmp_path / "entry")


def test_trajectories_of_a_training_are_read(tmp_path):
    file = mtbench_entry(tmp_path / "entry") / "trajectories" / "dance.pth"
    torch.save(torch.nn.Parameter(POINTS), file)
    assert read_mtbench(tmp_path / "entry")["dance"].tracks.shape == (5, 4, 2)


def npy(shape, raw=bytes(40)):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + raw


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no array",
        npy("(1 << 40,)"),
        npy("(1099511627776,)"),
        npy("(-1, -10)"),
        npy("(" * 60 + ")" * 60),
        npy("(10,)", bytes(39)),
        npy("(10,)", bytes(41)),
        b"\x93NUMPY\x07\x00" + bytes(60),
    ],
)
def test_arrays_that_claim_another_size_are_refused(tmp_path, content):
    folder = difftrack_folder(tmp_path)
    (folder / "tracks/001.npy").write_bytes(content)
    with pytest.raises(ClipError, match=r"001\.npy cannot be read as an npy file: "):
        read_difftrack(folder)


def test_several_arrays_in_place_of_one_are_refused(tmp_path):
    folder = difftrack_folder(tmp_path)
    with (folder / "tracks/001.npy").open("wb") as file:
        np.savez(file, tracks=np.zeros(3))
    with pytest.raises(ClipError, match=r"001\.npy cannot be read as an npy file: "):
        read_difftrack(folder)


def test_lists_that_are_no_utf_8_and_masks_that_are_no_picture_are_refused(tmp_path):
    folder = mtbench_entry(tmp_path / "entry")
    (folder / "masks/dance/00000.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with pytest.raises(ClipError, match=r"00000\.png cannot be read as a mask"):
        read_mtbench(folder)
    (folder / "prompts.txt").write_bytes("Ein Löwe.".encode("latin1"))
    with pytest.raises(ClipError, match=r"prompts\.txt cannot be read as UTF-8 text: .*\. Save it as UTF-8\.$"):
        read_mtbench(folder)


def test_mtbench_pickle_missing_file_and_path_outside(tmp_path):
    folder = mtbench_entry(tmp_path / "entry")
    torch.save(Path("anything"), folder / "trajectories" / "dance.pth")
    with pytest.raises(UnsafePickleError, match=r"dance\.pth holds more than tensors and was not read"):
        read_mtbench(folder)
    torch.save(torch.zeros(5, 4), folder / "trajectories" / "dance.pth")
    with pytest.raises(ClipError, match=r"must be a tensor \(image, point, 3\) of x, y and visibility; got \(5, 4\)"):
        read_mtbench(folder)
    (folder / "trajectories" / "dance.pth").unlink()
    with pytest.raises(ClipError, match=r"dance\.pth is missing"):
        read_mtbench(folder)
    (folder / "videos.txt").write_text("../../other.mp4")
    with pytest.raises(ClipError, match=r"names '\.\./\.\./other\.mp4', which lies outside it"):
        read_mtbench(folder)


class TestReadClips:
    def test_one_video(self, tmp_path):
        assert list(read_clips(video(tmp_path / "one.mp4"))) == ["one"]

    def test_a_folder_of_videos(self, tmp_path):
        for name in ("b.mp4", "a.mkv"):
            video(tmp_path / name)
        assert list(read_clips(tmp_path)) == ["a", "b"]

    def test_videos_that_differ_in_the_suffix_alone_keep_it(self, tmp_path):
        for number, name in enumerate(["a.mp4", "a.mkv", "b.mov"]):
            video(tmp_path / name, images=3 + number)
        assert {name: len(clip) for name, clip in read_clips(tmp_path).items()} == {"a.mp4": 3, "a.mkv": 4, "b": 5}
        video(tmp_path / "a.mkv.avi", images=6)
        assert sorted(read_clips(tmp_path)) == ["a.mkv", "a.mkv.avi", "a.mp4", "b"]

    def test_names_that_a_folder_cannot_tell_apart_are_refused(self, tmp_path):
        entry = mtbench_entry(tmp_path / "1", "dance")
        for name in ("b", "c"):
            video(entry / name / "dance.mp4")
        (entry / "videos.txt").write_text("b/dance.mp4\nc/dance.mp4\n")
        for name in ("2", "b"):
            for suffix in ("mp4", "mkv"):
                video(tmp_path / name / f"dance.{suffix}")
        with pytest.raises(ClipError) as caught:
            read_clips(tmp_path)
        assert str(caught.value) == f"two clips of {tmp_path} are called 'b/dance.mp4'. Rename one of them."

    def test_an_entry_and_a_difftrack_folder(self, tmp_path):
        assert read_clips(mtbench_entry(tmp_path / "entry"))["dance"].masks is not None
        assert read_clips(difftrack_folder(tmp_path / "fg"))["001"].tracks is not None

    def test_a_folder_of_everything(self, tmp_path):
        mtbench_entry(tmp_path / "entry")
        difftrack_folder(tmp_path / "fg")
        difftrack_folder(tmp_path / "bg", videos=())
        video(tmp_path / "plain" / "one.mp4")
        assert list(read_clips(tmp_path)) == ["dance", "001", "one"]

    def test_nothing(self, tmp_path):
        with pytest.raises(ClipError) as caught:
            read_clips(tmp_path / "nowhere")
        assert str(caught.value) == f"{tmp_path}/nowhere does not exist. Name a video, or a folder of clips."
        with pytest.raises(ClipError) as caught:
            read_clips(tmp_path)
        assert str(caught.value) == (
            f"{tmp_path} holds no clips: no video (.mp4, .mov, .mkv, .webm, .avi, .m4v), no DiffTrack folder (tracks/ "
            f"and visibility/), no MTBench entry (videos.txt), and no folder of these."
        )


def test_a_part_of_published_clips_is_the_slice_of_the_whole(tmp_path):
    for number, folder in enumerate([difftrack_folder(tmp_path / "fg"), mtbench_entry(tmp_path / "entry")]):
        (whole,), (part,) = read_clips(folder).values(), read_clips(folder, first=1, last=3, stride=2).values()
        for name in ("images", "tracks", "visibility", *["masks"] * number):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[1:4:2])
        assert (part.prompt, part.part) == (whole.prompt, whole[1:4:2].part)
    (single,) = read_clips(mtbench_entry(tmp_path / "one", masks=3), first=1).values()
    assert single.masks is None  # the one mask is that of image 0


@needs_data
def test_real_davis_clips():
    clips = read_mtbench(DATA / "det")
    assert list(clips) == ["dance-twirl", "dog-agility"]
    dance, dog = clips.values()
    assert (len(dance), dance.height, dance.width) == (49, 480, 720)
    assert dance.masks.shape == (49, 480, 720)
    assert dog.masks.shape == (1, 480, 720)
    assert dance.tracks.shape == dog.tracks.shape == (49, 100, 2)
    assert round(100 * dance.visibility[0].mean()) == 54
    assert round(100 * dog.visibility[0].mean()) == 27
    assert dog.prompt == "A dog running through a series of red and white poles."
    y, x = dance.tracks[0, dance.visibility[0]].T[::-1]
    assert dance.masks[0][y.astype(int), x.astype(int)].mean() > 0.9  # the points lie on the dancer


@needs_data
def test_real_difftrack_clips():
    folder = DATA / "difftrack" / "cogvideox_t2v_2b" / "fg"
    clips = read_clips(folder)
    assert list(clips) == ["000"]
    assert clips["000"].tracks.shape == (49, 400, 2)
    assert round(100 * clips["000"].visibility[0].mean()) == 7
    assert clips["000"].prompt.startswith("A vibrant honeybee")
    assert tracks_without_video(folder) == [f"{number:03d}" for number in range(1, 10)]
