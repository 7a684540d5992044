"""Clips with their tracks as a pickle of TAP-Vid's DAVIS layout."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from store.arguments import check_kind, checked_but
from store.clips.clip import Clip
from store.datasets.tapvid import describe
from store.errors import InvalidInputError
from store.files.atomic import atomic_write
from store.files.outputs import OutputFile
from store.files.trailer import append_digest

_FILE = OutputFile("TAP-Vid clips", "clips.pkl")


@checked_but("clips")
def write_tapvid(path: str | os.PathLike[str], clips: Mapping[str, Clip], *, overwrite: bool = False) -> Path:
    """Write clips with their tracks, true or predicted, as a pickle of TAP-Vid's DAVIS layout.

    The file is a dict of clips by name; it holds nothing but ``numpy.ndarray`` calls, so that TAP-Vid's own tools load
    it with any version of numpy. Points are float32 fractions of width and height (:func:`read_tapvid` says which),
    good to about 0.0001 px. Prompts, masks and the rate have no place in it. The file is written atomically, and
    ends in a digest, which :func:`read_tapvid` checks and ``pickle.load`` does not see.

    Parameters
    ----------
    path : path of the pickle
    clips : Clips with tracks, by name; for predictions, give each clip the predicted tracks and visibility
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path of the pickle.

    Raises
    ------
    InvalidInputError
        No clips, a name that is not a text, a clip without tracks.
    OutputExistsError
        When the file exists and ``overwrite`` is False.

    Examples
    --------
    >>> import tempfile
    >>> from store import read_tapvid
    >>> clip = Clip(np.zeros((3, 64, 128, 3), np.uint8), fps=25, tracks=np.full((3, 1, 2), 28.0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_tapvid(f"{folder}/one.pkl", {"goat": clip})
    ...     read_tapvid(path)["goat"].tracks[0]
    array([[28., 28.]])
    """
    path = Path(path)
    if not isinstance(clips, Mapping) or not clips:
        raise InvalidInputError(f"clips must be a dict of Clips by name with at least one; got {describe(clips)}.")
    for clip in clips.values():
        check_kind(clip, Clip, "each of clips")
    _FILE.check(path, overwrite=overwrite)
    content = {name: _entry(name, clip) for name, clip in clips.items()}
    with atomic_write(path) as partial:
        with partial.open("wb") as file:
            _ArrayPickler(file, protocol=5).dump(content)
        append_digest(partial, ".pkl")
    return path


def _entry(name: Any, clip: Clip) -> dict[str, np.ndarray]:
    if not isinstance(name, str):
        raise InvalidInputError(f"clip names must be strings; got {name!r}.")
    if clip.tracks is None or clip.visibility is None:
        raise InvalidInputError(f"clip {name!r} has no tracks, and a TAP-Vid file is about tracks. Leave it out.")
    points = (clip.tracks / [clip.width, clip.height]).swapaxes(0, 1).astype(np.float32)
    return {"video": clip.images, "points": points, "occluded": ~clip.visibility.T}


class _ArrayPickler(pickle.Pickler):
    """Arrays as calls of ``numpy.ndarray``: numpy's own pickles name modules that moved in numpy 2."""

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return NotImplemented
        return np.ndarray, (value.shape, value.dtype.str, bytearray(value.tobytes()))
