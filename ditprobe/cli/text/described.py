"""Descriptions of the files that ditprobe writes or reads, in a few lines of text."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.errors import ClipError, InvalidInputError, RecordingError
from store.text import counted

if TYPE_CHECKING:
    import xarray as xr

_VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm", ".gif", ".png", ".jpg", ".jpeg")
_KNOWN = (
    "a video, a recording, a sweep, tracks, a flow, an evaluation, a selection of layers, a motion embedding or "
    "adapter, or a TAP-Vid pickle"
)
SUFFIXES = (*_VIDEOS, ".zarr", ".npz", ".nc", ".json", ".jsonl", ".csv", ".safetensors", ".pkl", ".html")
"""Ends of names that are files, never backbones."""


def describe_file(path: Path) -> str:
    """Describe a file or a Zarr folder by its content, not by its name alone.

    Raises
    ------
    InvalidInputError
        For something that ditprobe neither writes nor reads; the message states what it holds.
    DitprobeError
        For a file of a known kind that is damaged.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from store.tracks.files import save_tracks
    >>> from store.tracks.point_tracks import PointTracks
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "still.npz")
    ...     _ = save_tracks(PointTracks.still(np.array([[2, 10.0, 20.0]]), 9), path)
    ...     print(describe_file(path))
    PointTracks(1 point in 9 images, 100 % visible)
      tracker            nothing moves
    """
    readers: Mapping[str, Callable[[Path], str]] = {
        ".npz": _npz,
        ".nc": _netcdf,
        ".zarr": _zarr,
        ".safetensors": _safetensors,
        ".json": _json,
        ".jsonl": _lines,
        ".csv": _table,
        ".pkl": _pickle,
    }
    reader = _zarr if (path / "attn").is_dir() else readers.get(path.suffix.lower(), _video)
    return reader(path)


def _unknown(path: Path, holds: str) -> InvalidInputError:
    return InvalidInputError(f"{path} {holds}. It is not {_KNOWN}.")


def _npz(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()} - {"ditprobe_digest"}
    except (OSError, zipfile.BadZipFile) as error:
        raise InvalidInputError(f"{path} is not an npz file, or it is damaged: {error}.") from error
    if {"tracks", "queries"} <= names:
        return _tracks(path)
    if {"flow", "dims"} <= names:
        return _flow(path)
    clip = path.with_suffix("")
    if names <= {"tracks", "visibility", "masks", "prompt"} and clip.suffix.lower() in _VIDEOS:
        return f"{path}: {', '.join(sorted(names))} of the clip {clip}, which a video cannot hold"
    raise _unknown(path, f"is an npz file of {', '.join(sorted(names)) or 'nothing'}")


def _tracks(path: Path) -> str:
    from store.tracks.files import load_tracks

    tracks = load_tracks(path)
    return "\n".join([repr(tracks), *_facts(tracks.details)])


def _flow(path: Path) -> str:
    from analyses.flow.files import load_flow

    flow = load_flow(path)
    cells = f"{flow.sizes['y']} x {flow.sizes['x']} cells (rows x columns)"
    head = f"Attention motion flow between {counted(flow.sizes['frame'], 'frame')} of {cells}"
    return "\n".join([head, *_facts(json.loads(str(flow.attrs.get("details", "{}"))))])


def _netcdf(path: Path) -> str:
    import xarray as xr

    with path.open("rb") as file:
        if file.read(3) != b"CDF":
            raise _unknown(path, "is not a netCDF 3 file")
    try:
        with xr.open_dataset(path, engine="scipy", decode_cf=False) as opened:
            names, attributes = {str(name) for name in opened.variables}, set(opened.attrs)
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise RecordingError(f"{path} is a damaged netCDF file: {error}.") from error
    if {"mass", "uniform"} <= names:
        return _heads(path)
    if "json_attributes" in attributes:
        from analyses.layers.sweep_files import load_sweep

        return str(load_sweep(path))
    if {"tracks", "query_x"} <= names:
        return _tracks(path)
    if "flow" in names:
        return _flow(path)
    if {"tracker", "average_jaccard"} <= names:
        return _evaluation(xr.load_dataset(path, engine="scipy"))
    raise _unknown(path, f"is a netCDF file of {', '.join(sorted(names)) or 'nothing'}")


def _heads(path: Path) -> str:
    from analyses.heads.decide import decide_heads
    from analyses.heads.files import load_heads
    from analyses.heads.words import classes_text

    return classes_text(decide_heads(load_heads(path)))


def _evaluation(found: xr.Dataset) -> str:
    from ditprobe.cli.text.tapvid import mean_table

    trackers, clips = (counted(found.sizes[name], name) for name in ("tracker", "clip"))
    return f"Evaluation of {trackers} on {clips}\n\n{mean_table(found)}"


def _zarr(path: Path) -> str:
    if (path / "attn").is_dir():
        from store.recordings.reader import open_recording

        return str(open_recording(path))
    names = {item.name for item in path.iterdir() if item.is_dir()} if path.is_dir() else set()
    if {"tracks", "query_x"} <= names:
        return _tracks(path)
    if "flow" in names:
        return _flow(path)
    raise _unknown(path, f"holds {', '.join(sorted(names)) or 'no arrays'}")


def _safetensors(path: Path) -> str:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
    except (OSError, SafetensorError) as error:
        raise InvalidInputError(f"{path} is not a safetensors file, or it is damaged: {error}.") from error
    if "ditprobe_motion_embedding" in metadata:
        from generators.transfer.embedding_files import load_embedding

        return repr(load_embedding(path))
    if "ditprobe_motion_adapter" in metadata:
        return _adapter(path)
    if names == ["latents"]:
        return f"{path}: the last good latents of a run that diverged"
    raise _unknown(path, f"is a safetensors file of {counted(len(names), 'tensor')}")


def _adapter(path: Path) -> str:
    from generators.adapters.files import read_adapter_header

    header = read_adapter_header(path)
    origin, details, layers = header["origin"], header["details"], header["layers"]
    losses = details.get("losses", [])
    facts = {
        "method": details.get("method"),
        "caption": details.get("prompt"),
        "kept": f"in the first {details['keep']:.0%} of the layers" if "keep" in details else None,
        "training": counted(len(losses), "step") if losses else None,
    }
    head = f"Motion adapter ({header['kind']}) of {len(layers)} of {counted(origin['layers'], 'layer')}"
    return "\n".join([f"{head} of {origin['name']}", *_facts(facts)])


def _json(path: Path) -> str:
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise _unknown(path, "is not JSON") from error
    keys = set(found) if isinstance(found, dict) else set()
    if isinstance(found, dict) and found.get("format") == "ditprobe layer selection":
        layers = ", ".join(map(str, found.get("layers", ()))) or "none"
        return f"Selection of layers for {found.get('backbone') or 'an unnamed backbone'}: {layers}"
    if {"clips", "means", "settings"} <= keys:
        return f"Evaluation of trackers as JSON: {counted(len(found['clips']), 'line')} of clips and trackers"
    raise _unknown(path, "is JSON of something else")


def _lines(path: Path) -> str:
    with path.open("rb") as file:
        first, *rest = file.read().splitlines() or [b""]
    if b"ditprobe evaluation of motion transfer" in first:
        return f"Finished clips of an evaluation of motion transfer: {counted(len(rest), 'clip')}, for --resume"
    if b"ditprobe evaluation of trackers" not in first:
        raise _unknown(path, "holds JSON lines of something else")
    return f"Finished clips of an evaluation of trackers: {counted(len(rest), 'clip')} and tracker, for --resume"


def _table(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        columns = file.readline().strip().split(",")
        rows = sum(1 for line in file if line.strip())
    if columns[:2] == ["clip", "tracker"]:
        return f"Evaluation of trackers as a table: {counted(rows, 'line')} of clips and trackers"
    if {"image", "x", "y"} <= {name.strip().lower() for name in columns}:
        return f"Points to track: {counted(rows, 'point')}"
    raise _unknown(path, f"is a table of {', '.join(columns)}")


def _pickle(path: Path) -> str:
    from store.datasets.tapvid import iter_tapvid

    clips = [(name, str(clip)) for name, clip in iter_tapvid(path)]
    shown = [f"  {name}: {clip}" for name, clip in clips[:20]]
    more = [f"  ... and {len(clips) - 20} more"] if len(clips) > 20 else []
    return "\n".join([f"TAP-Vid pickle of {counted(len(clips), 'clip')}", *shown, *more])


def _video(path: Path) -> str:
    from store.clips.video import read_clip

    try:
        return str(read_clip(path))
    except ClipError as error:
        if path.suffix.lower() in _VIDEOS:
            raise
        raise _unknown(path, "holds no video") from error


def _facts(details: Mapping[str, Any]) -> list[str]:
    return [f"  {name:<18s} {value}" for name, value in details.items() if value not in ("", None)]
