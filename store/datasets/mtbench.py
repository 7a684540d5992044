"""Entries of MTBench: videos with trajectories, masks and captions."""

from __future__ import annotations

import os
import pickletools
import warnings
import zipfile
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
from PIL import Image

from store.arguments import checked
from store.clips.clip import Clip
from store.clips.decoding import Wanted
from store.clips.video import wanted_part
from store.datasets.shared import (
    assemble_clip,
    children,
    clip_names,
    merge_folders,
    part_of_clip,
    path_inside,
    read_wanted,
    text_lines,
)
from store.errors import ClipError, UnsafePickleError
from store.files.damaged import damage_as


@checked
def read_mtbench(
    folder: str | os.PathLike[str], *, first: int = 0, last: int | None = None, stride: int = 1
) -> dict[str, Clip]:
    """Clips of one MTBench entry, or of a folder of entries, by name.

    An entry holds ``videos.txt``, ``prompts.txt``, ``masks.txt`` and ``trajectories.txt``, which name a video, its
    prompt, a folder of masks and a ``.pth`` of (image, point, 3), line by line: x and y in fractions of width and
    height, and visibility. With at least as many masks as images, mask i belongs to image i; with fewer, only the
    first is used, for image 0. ``first``, ``last`` and ``stride`` choose images of every clip, as in
    :func:`store.clips.video.read_clip`.

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
    if is_mtbench(folder):
        return _mtbench_entry(folder, part)
    entries = [child for child in children(folder) if is_mtbench(child)]
    if not entries:
        raise ClipError(f"{folder} does not have the MTBench layout: neither it nor a folder in it has a videos.txt.")
    return merge_folders(folder, entries, lambda entry: _mtbench_entry(entry, part))


def _mtbench_entry(folder: Path, part: Wanted) -> dict[str, Clip]:
    lists = {name: text_lines(folder / f"{name}.txt") for name in ("videos", "prompts", "masks", "trajectories")}
    clips = {}
    names = clip_names([video for video in lists["videos"] if video], folder / "videos.txt")
    for number, video in enumerate(lists["videos"]):
        if not video:
            continue
        row = {name: lines[number] if number < len(lines) else None for name, lines in lists.items()}
        clip = read_wanted(path_inside(folder, video), part)
        tracks, visibility = None, None
        if row["trajectories"]:
            values = _load_pth(path_inside(folder, row["trajectories"]))
            tracks = values[..., :2] * np.array([clip.width, clip.height], values.dtype)
            visibility = values[..., 2] > 0.5
        masks = _read_masks(path_inside(folder, row["masks"]), clip) if row["masks"] else None
        clips[names[video]] = assemble_clip(path_inside(folder, video), clip, tracks, visibility, masks, row["prompts"])
    if not clips:
        raise ClipError(f"{folder / 'videos.txt'} names no video.")
    return clips


def _read_masks(folder: Path, clip: Clip) -> np.ndarray | None:
    """Masks of every image of the whole video, or of the first alone."""
    files = sorted(folder.glob("*.png"))
    if not files:
        raise ClipError(f"{folder} has no masks (*.png).")
    images = part_of_clip(clip).images
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
            with warnings.catch_warnings(action="ignore"):  # of pickle protocols; what cannot be read is rejected below
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


def is_mtbench(folder: Path) -> bool:
    return (folder / "videos.txt").is_file()
