"""``dp.explore``: the explorer of a recording in a notebook."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditprobe.explorer.controller import Explorer
from ditprobe.explorer.opened import OpenedRecording, opened
from store.arguments import checked
from store.clips.clip import Clip
from store.errors import InvalidInputError, MissingWidgetsError
from store.recordings.reader import Recording
from store.selection import Selection

if TYPE_CHECKING:
    import xarray as xr

    from ditprobe.explorer.widget import ExplorerWidget
    from probe.backbones.backbone import Backbone


@checked
def explore(
    recording: Recording | Clip | str | os.PathLike[str] | None = None,
    backbone: Backbone | None = None,
    *,
    prompt: str | None = None,
    clip: Clip | None = None,
    beside: Recording | str | os.PathLike[str] | None = None,
    beside_clip: Clip | None = None,
    sweep: xr.Dataset | None = None,
    selection: Selection | None = None,
    seed: int = 0,
) -> ExplorerWidget:
    """Explore a recording in a notebook: click a point to see what it attends to and where it is found.

    Parameters
    ----------
    recording : Recording, path or Clip; left out where a prompt is sampled
        A clip is recorded first, in a temporary folder, with ``backbone``.
    backbone : Backbone, optional
        What records a clip or samples a prompt.
    prompt : str, optional
        Without a recording: what is sampled, and recorded meanwhile. Of a clip: the prompt that it is shown with, its
        own by default.
    clip : Clip, optional
        The images of the recording: the clip that was recorded, or that ``record(save_clip=)`` wrote. Beside
        ``a.zarr``, ``a.mp4`` is found without it. Its tracks are what matches are compared with.
    beside, beside_clip : optional
        A second recording, shown side by side with the first and their difference.
    sweep : Dataset, optional
        Its map of layers and steps is used to navigate.
    selection : Selection, optional
        What is recorded of a clip or a prompt: by default all layers at the first, the middle and the last of 50 steps.
    seed : int
        Seed of the noise with which a clip is recorded or a prompt sampled.

    Returns
    -------
    ExplorerWidget
        An ipywidget; ``widget.save_html("view.html")`` writes it as a file that still responds.

    Raises
    ------
    InvalidInputError
        For a clip or a prompt without a backbone, a prompt beside a recording, and something that is not a sweep.
    MissingWidgetsError
        Without anywidget, which comes with ``ditprobe[notebooks]``.
    RecordingError, ClipError
        What is there is not a recording, or the clip is not the recorded one.

    Examples
    --------
    >>> from probe.mini import MiniConfig, new_pipeline
    >>> import ditprobe as dp
    >>> mini = dp.load_backbone(new_pipeline(MiniConfig(layers=2)))
    >>> explore(dp.make_scene(0), mini, selection=dp.Selection(steps=[-1], layers=[1]))
    Explorer of scene.zarr: layers 1, steps 49, 4 heads
    """
    try:
        from ditprobe.explorer.widget import ExplorerWidget
    except ImportError as error:
        raise MissingWidgetsError(
            "the explorer in a notebook needs anywidget.",
            remedy="Run pip install 'ditprobe[notebooks]', or look at the recording with `ditprobe explore`.",
        ) from error

    folder = None
    if recording is None or isinstance(recording, Clip):
        if recording is None and clip is not None:
            raise InvalidInputError("a prompt is sampled, so clip has no recording to belong to. Leave clip out.")
        first, folder = _recorded(recording, backbone, selection, seed, prompt)
    else:
        if backbone is not None or selection is not None or prompt is not None:
            raise InvalidInputError(
                "backbone, selection and prompt are for what is recorded first; this recording has been made already. "
                "Leave them out."
            )
        first = opened(_as_path(recording), clip)
    both = [first] if beside is None else [first, opened(_as_path(beside), beside_clip)]
    return ExplorerWidget(Explorer(both, sweep=sweep), folder=folder)


def _as_path(recording: Recording | str | os.PathLike[str]) -> Recording | Path:
    return recording if isinstance(recording, Recording) else Path(recording)


def _recorded(
    clip: Clip | None, backbone: Backbone | None, selection: Selection | None, seed: int, prompt: str | None
) -> tuple[OpenedRecording, Any]:
    """The first window of a clip, or a sampled prompt, as a recording, and the temporary folder that it is in."""
    from probe.recording.record import record
    from probe.run.windows import cut_windows

    if clip is None and prompt is None:
        raise InvalidInputError("there is nothing to explore: pass a recording, a clip, or prompt= with backbone=.")
    if backbone is None:
        raise InvalidInputError(
            "a clip or a prompt is recorded before it is explored. Pass the backbone: explore(clip, backbone), or "
            "explore(backbone=backbone, prompt=...)."
        )
    chosen = selection or Selection(steps=[0, 25, -1], layers="all")
    folder = tempfile.TemporaryDirectory(prefix="ditprobe-explorer-", ignore_cleanup_errors=True)
    if clip is None:
        path = Path(folder.name, "prompt.zarr")
        record(backbone, str(prompt), chosen, path, seed=seed, save_clip=path.with_suffix(".mkv"))
        return opened(path), folder
    how: dict[str, Any] = {} if prompt is None else {"prompt": prompt}
    run = record(backbone, clip, chosen, Path(folder.name, "scene.zarr"), noise="forward", seed=seed, **how)
    return OpenedRecording(run, cut_windows(backbone, clip)[0].clip), folder
