"""Clips of published sets, and of anything that looks like one."""

from __future__ import annotations

import os
import pickletools
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
from PIL import Image

from store.arguments import checked
from store.clips.clip import Clip, Part
from store.clips.decoding import Wanted
from store.clips.video import read_clip, wanted_part
from store.errors import ClipError, UnsafePickleError
from store.files.damaged import damage_as
from store.files.numpy_files import load_npy

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")


@checked
def read_difftrack(
    folder: str | os.PathLike[str], *, first: int = 0, last: int | None = None, stride: int = 1
) -> dict[str, Clip]:
    """Clips of one folder of DiffTrack's layout, by name.

    The folder holds ``tracks/NNN.npy``, float (1, image, point, 2) as (x, y) in pixels, ``visibility/NNN.npy``, bool
    (1, image, point), ``prompt.txt`` with one prompt a line, and ``NNN.mp4``. Entries with tracks but no video are
    left out; :func:`tracks_without_video` lists them. ``first``, ``last`` and ``stride`` choose images of every clip,
    as in :func:`store.clips.video.read_clip`.

    Raises
    ------
    ClipError
        The layout is another, no entry has a video, or a video does not fit its tracks.
    UnsafePickleError
        An array holds pickled objects.

    Examples
    --------
    >>> read_difftrack("nowhere")
    Traceback (most recent call last):
    ...
    store.errors.ClipError: nowhere has not the DiffTrack layout: it needs tracks/*.npy and visibility/*.npy.
    """
    folder = Path(folder)
    if not _is_difftrack(folder):
        raise ClipError(f"{folder} has not the DiffTrack layout: it needs tracks/*.npy and visibility/*.npy.")
    missing = tracks_without_video(folder)
    names = [name for name in _track_names(folder) if name not in missing]
    if not names:
        raise ClipError(
            f"{folder} has tracks for {missing[0]} to {missing[-1]} but no video. Put {missing[0]}.mp4 beside tracks/."
        )
    prompts = _lines(folder / "prompt.txt")
    part = wanted_part(first, last, stride)
    return {name: _difftrack_clip(folder, name, prompts, part) for name in names}


@checked
def tracks_without_video(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the entries of a DiffTrack folder that have tracks but no video, which :func:`read_difftrack` omits."""
    return [name for name in _track_names(Path(folder)) if not (Path(folder) / f"{name}.mp4").is_file()]


def _track_names(folder: Path) -> list[str]:
    return sorted(file.stem for file in (folder / "tracks").glob("*.npy"))


def _difftrack_clip(folder: Path, name: str, prompts: list[str], part: Wanted) -> Clip:
    clip = _read(folder / f"{name}.mp4", part)
    tracks = _first(_load_npy(folder / "tracks" / f"{name}.npy"))
    visibility = _first(_load_npy(folder / "visibility" / f"{name}.npy"))
    line = int(name) if name.isdecimal() else -1
    prompt = prompts[line] if 0 <= line < len(prompts) else None
    return _assembled(folder / name, clip, tracks, visibility.astype(bool), None, prompt)


def _read(path: Path, part: Wanted) -> Clip:
    return read_clip(path, first=part.first, last=part.last, stride=part.stride)


def _first(batch: np.ndarray) -> np.ndarray:
    return batch[0] if batch.ndim and len(batch) == 1 else batch


@checked
def read_mtbench(
    folder: str | os.PathLike[str], *, first: int = 0, last: int | None = None, stride: int = 1
) -> dict[str, Clip]:
    """Clips of one MTBench entry, or of a folder of entries, by name.

    An entry holds ``videos.txt``, ``prompts.txt``, ``masks.txt`` and ``trajectories.txt``, which name a video, its
    prompt, a folder of masks and a ``.pth`` of (image, point, 3), line by line: x and y in fractions of width and
    height, and visibility. Masks are used for every image when there are as many as images or more (mask i then
    belongs to image i); else only the first, for image 0. ``first``, ``last`` and ``stride`` choose images of every
    clip, as in :func:`store.clips.video.read_clip`.

    Raises
    ------
    ClipError
        The layout is another, or a file it names is missing, damaged, named twice or does not fit.
    UnsafePickleError
        Trajectories hold more than tensors.

    Examples
    --------
    >>> read_mtbench("nowhere")
    Traceback (most recent call last):
    ...
    store.errors.ClipError: nowhere is not a folder.
    """
    folder, part = Path(folder), wanted_part(first, last, stride)
    if _is_mtbench(folder):
        return _mtbench_entry(folder, part)
    entries = [child for child in _children(folder) if _is_mtbench(child)]
    if not entries:
        raise ClipError(f"{folder} has not the MTBench layout: neither it nor a folder in it has a videos.txt.")
    return _merged(folder, entries, lambda entry: _mtbench_entry(entry, part))


def _mtbench_entry(folder: Path, part: Wanted) -> dict[str, Clip]:
    lists = {name: _lines(folder / f"{name}.txt") for name in ("videos", "prompts", "masks", "trajectories")}
    clips = {}
    names = _names([video for video in lists["videos"] if video], folder / "videos.txt")
    for number, video in enumerate(lists["videos"]):
        if not video:
            continue
        row = {name: lines[number] if number < len(lines) else None for name, lines in lists.items()}
        clip = _read(_inside(folder, video), part)
        tracks, visibility = None, None
        if row["trajectories"]:
            values = _load_pth(_inside(folder, row["trajectories"]))
            tracks = values[..., :2] * np.array([clip.width, clip.height], values.dtype)
            visibility = values[..., 2] > 0.5
        masks = _read_masks(_inside(folder, row["masks"]), clip) if row["masks"] else None
        clips[names[video]] = _assembled(_inside(folder, video), clip, tracks, visibility, masks, row["prompts"])
    if not clips:
        raise ClipError(f"{folder / 'videos.txt'} names no video.")
    return clips


def _names(videos: Sequence[str], folder: Path) -> dict[str, str]:
    """Name of each video: without its suffix, or as it was given where two would have the same name."""
    twice = [video for video, count in Counter(videos).items() if count > 1]
    if twice:
        raise ClipError(f"{folder} names {twice[0]!r} twice. Name every video once.")
    stems = Counter([*(Path(video).stem for video in videos), *videos])
    return {video: Path(video).stem if stems[Path(video).stem] == 1 else video for video in videos}


def _inside(folder: Path, name: str) -> Path:
    """A path that a list names, refused when it leaves the entry."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ClipError(f"{folder} names {name!r}, which lies outside it.")
    return path


def _read_masks(folder: Path, clip: Clip) -> np.ndarray | None:
    """Masks of every image of the whole video, or of the first alone."""
    files = sorted(folder.glob("*.png"))
    if not files:
        raise ClipError(f"{folder} has no masks (*.png).")
    images = _part(clip).images
    files = files[:images] if len(files) >= images else files[:1]
    masks = []
    for file in files:
        with damage_as(ClipError, f"{file} cannot be read as a mask"), Image.open(file) as image:
            masks.append(np.asarray(image.convert("L")) > 127)
    return np.stack(masks)


def _load_pth(path: Path) -> np.ndarray:
    import torch  # nowhere else in this package: only these files need it

    if not path.is_file():
        raise ClipError(f"{path} is missing.")
    with damage_as(ClipError, f"{path} is damaged or no torch file", "Get it again."):
        try:
            with warnings.catch_warnings(action="ignore"):  # of pickle protocols; what cannot be read is refused below
                values = torch.load(path, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            if _is_whole_pickle(path):
                raise UnsafePickleError(f"{path} holds more than tensors and was not read.") from error
            raise ValueError("it holds no whole pickle") from error
        if not isinstance(values, torch.Tensor) or values.ndim != 3 or values.shape[2] != 3:
            found = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
            raise ClipError(f"{path} must be a tensor (image, point, 3) of x, y and visibility; got {found}.")
        stored = values.layout is torch.strided and not values.is_nested and not values.is_meta
        if not stored or values.is_complex() or values.is_quantized:
            raise ClipError(f"{path} must hold plain numbers, one for each value. Save `values.float().contiguous()`.")
        if values.numel() * values.element_size() > values.untyped_storage().nbytes():
            raise ValueError(f"it has fewer numbers than the {values.numel()} of its shape")
        array: np.ndarray = values.detach().float().numpy()
        return array


def _is_whole_pickle(path: Path) -> bool:
    """Tell whether a torch file, a zip or not, has a pickle that can be parsed to its end; nothing in it is run."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                return bool(list(pickletools.genops(archive.read(name))))
        with path.open("rb") as file:
            return bool(list(pickletools.genops(file)))
    except Exception:  # damaged zips and pickles raise a dozen kinds
        return False


def _load_npy(path: Path) -> np.ndarray:
    if not path.is_file():
        raise ClipError(f"{path} is missing.")
    with damage_as(ClipError, f"{path} cannot be read as an npy file"):
        return load_npy(path)


def _part(clip: Clip) -> Part:
    return clip.part or Part(0, 1, len(clip))


def _assembled(path: Path, clip: Clip, tracks: Any, visibility: Any, masks: Any, prompt: str | None) -> Clip:
    """The clip with what is known of its whole video."""
    known = {"tracks": tracks, "visibility": visibility, "masks": masks, "prompt": prompt}
    try:
        return Clip.of_part(clip.images, clip.fps, _part(clip), **known)
    except ClipError as error:
        raise ClipError(f"{path}: {error}") from error


@checked
def read_clips(
    path: str | os.PathLike[str], *, first: int = 0, last: int | None = None, stride: int = 1
) -> dict[str, Clip]:
    """Clips of whatever lies at a path, by name.

    Recognised are a video file, a folder of DiffTrack's or MTBench's layout (:func:`read_difftrack`,
    :func:`read_mtbench`), a folder of such folders, and a folder of plain videos. A clip's name is that of its video
    without the suffix; where two would share it, with the suffix, and in folders of folders with the folder.

    Parameters
    ----------
    path : of a video file or a folder
    first, last, stride : int
        Read only these images of every clip, see :func:`store.clips.video.read_clip`.

    Raises
    ------
    ClipError
        Nothing is there, or nothing that is recognised.

    Examples
    --------
    >>> import tempfile
    >>> from store import write_clip
    >>> clip = Clip(np.zeros((3, 80, 112, 3), np.uint8), fps=8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_clip(f"{folder}/night.mp4", clip)
    ...     read_clips(folder)
    {'night': Clip(3 images of 80 x 112 px (height x width) at 8 fps)}
    """
    path, wanted = Path(path), wanted_part(first, last, stride)
    if not path.exists():
        raise ClipError(f"{path} does not exist. Name a video, or a folder of clips.")
    if path.is_file():
        return {path.stem: _read(path, wanted)}
    clips = _read_folder(path, wanted)
    if clips is None:
        parts = [child for child in _children(path) if child.is_dir() and _is_known(child)]
        if not parts:
            raise ClipError(
                f"{path} holds no clips: no video ({', '.join(VIDEO_SUFFIXES)}), no DiffTrack folder (tracks/ and "
                f"visibility/), no MTBench entry (videos.txt), and no folder of these."
            )
        clips = _merged(path, parts, lambda part: _read_folder(part, wanted) or {})
    return clips


def _read_folder(path: Path, part: Wanted) -> dict[str, Clip] | None:
    chosen: dict[str, Any] = {"first": part.first, "last": part.last, "stride": part.stride}
    if _is_mtbench(path):
        return read_mtbench(path, **chosen)
    if _is_difftrack(path):
        return read_difftrack(path, **chosen)
    names = _names([video.name for video in _videos(path)], path)
    return {name: _read(path / video, part) for video, name in names.items()} or None


def _merged(folder: Path, parts: list[Path], read: Callable[[Path], dict[str, Clip]]) -> dict[str, Clip]:
    """Clips of several folders; a name that occurs twice is told apart by its folder."""
    clips: dict[str, Clip] = {}
    for part in parts:
        for name, clip in read(part).items():
            free = name if name not in clips else f"{part.name}/{name}"
            if free in clips:
                raise ClipError(f"two clips of {folder} are called {free!r}. Rename one of them.")
            clips[free] = clip
    return clips


def _is_known(folder: Path) -> bool:
    if _is_difftrack(folder):
        return len(tracks_without_video(folder)) < len(_track_names(folder))
    return _is_mtbench(folder) or bool(_videos(folder))


def _is_difftrack(folder: Path) -> bool:
    return any((folder / "tracks").glob("*.npy")) and (folder / "visibility").is_dir()


def _is_mtbench(folder: Path) -> bool:
    return (folder / "videos.txt").is_file()


def _videos(folder: Path) -> list[Path]:
    return [file for file in _children(folder) if file.suffix.lower() in VIDEO_SUFFIXES]


def _children(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ClipError(f"{folder} is not a folder.")
    return sorted(child for child in folder.iterdir() if not child.name.startswith("."))


def _lines(file: Path) -> list[str]:
    """Lines of a text, trailing empty ones left out; none when the file is missing."""
    if not file.is_file():
        return []
    with damage_as(ClipError, f"{file} cannot be read as UTF-8 text", "Save it as UTF-8."):
        return [line.strip() for line in file.read_text(encoding="utf-8").rstrip().splitlines()]
