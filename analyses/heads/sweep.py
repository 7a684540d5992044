"""Attention masses of every head of a model, measured on clips while the model runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from analyses.arrays import BUDGET_BYTES
from analyses.heads.masses import TARGETS, MovingPairs, PendingMasses, fetch_masses, masses_on_device
from probe.backbones.backbone import Backbone
from probe.backbones.pipeline_call import OnStep
from probe.capture.capture import Capture
from probe.run.run import pass_count, run_clip
from probe.run.windows import cut_windows
from store.arguments import checked
from store.checks import integer
from store.clips.clip import Clip
from store.errors import EmptySelectionError, InvalidInputError
from store.layout import TokenLayout
from store.progress import Tell, progress_bar
from store.recordings.provenance import library_versions
from store.selection import Noise, Selection


@checked
def sweep_heads(
    backbone: Backbone,
    clips: Mapping[str, Clip],
    selection: Selection,
    *,
    noise: Noise = "forward",
    seed: int = 0,
    draws: int = 1,
    steps: int = 50,
    radius: int = 1,
    size: tuple[int, int] | None = None,
    images: int | None = None,
    stride: int = 1,
    prompt: str | None = None,
    guidance_scale: float | None = None,
    negative_prompt: str | None = None,
    conditioning: Mapping[str, Any] | None = None,
    budget_bytes: int = BUDGET_BYTES,
    progress: Tell | bool | None = None,
) -> xr.Dataset:
    """Attention masses of every selected layer and head at every selected step, without storing queries or keys.

    Parameters
    ----------
    backbone : Backbone
    clips : mapping of names to Clip
        Cut into windows that the backbone takes (:func:`probe.run.windows.cut_windows`); each window is an entry of
        ``clip``. The tracks of a clip, if it has any, give the masses on ``motion`` and ``still``.
    selection : Selection
        Steps, layers and one branch; all heads and frames.
    noise : "clean", "forward" or "inversion", see :func:`probe.run.run.run_states`
    seed : int Seed of the noise.
    draws : int
        Draws of the noise for each window; each is an entry of ``clip`` with a coordinate ``draw``.
    steps : denoising steps of the run
    radius : cells, see :func:`analyses.heads.masses.head_masses`
    size, images, stride : how clips are cut
    prompt : the text shown with every clip; by default the clip's own
    guidance_scale, negative_prompt, conditioning : as in :meth:`probe.backbones.backbone.Backbone.generate`
    budget_bytes : working memory of the measurements
    progress : called with (model steps done, total, name of the clip); a bar by default, False for none

    Returns
    -------
    Dataset over ``clip``, ``step``, ``layer``, ``head``, ``target``
        ``mass`` and ``uniform`` (clip, step, layer, target) as in :func:`analyses.heads.masses.head_masses`, and
        ``moving_pairs`` (clip). Windows and draws of a clip share its coordinate ``source``.

    Raises
    ------
    EmptySelectionError
        Without clips.
    InvalidInputError, UnknownLayerError
        Before the model runs; also for a clip of one latent frame.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from probe.mini import MiniConfig, new_pipeline
    >>> from store.scenes.scene import make_scene
    >>> mini = load_backbone(new_pipeline(MiniConfig(layers=2)))
    >>> found = sweep_heads(mini, {"scene": make_scene(0)}, Selection(steps=[-1], layers="all"))
    >>> dict(found["mass"].sizes)
    {'clip': 1, 'step': 1, 'layer': 2, 'head': 4, 'target': 6}
    """
    if not clips:
        raise EmptySelectionError("there is no clip to measure heads on. Pass at least one.")
    if len(tuple(selection.branches)) != 1 or selection.heads is not None or selection.frames is not None:
        raise InvalidInputError(
            "heads are measured on one branch, with all heads and frames: pass Selection(steps=..., layers=...)."
        )
    integer(draws, "draws", min_value=1)
    integer(radius, "radius")
    backbone.check_ready()
    runs = [
        (name, window, draw)
        for name, clip in clips.items()
        for window in cut_windows(backbone, clip, size=size, images=images, stride=stride)
        for draw in range(draws)
    ]
    for name, window, _ in runs:
        if backbone.layout(*window.size).frames < 2:
            raise InvalidInputError(
                f"clip {name!r} is one latent frame long, so its heads have no other frame to attend to. Give more "
                "images of it, or leave it out."
            )
    passes, entries = pass_count(selection, noise=noise, steps=steps), []
    with progress_bar(progress, "measuring heads") as tell:
        for number, (name, window, draw) in enumerate(runs):
            found = _Found(window.clip, radius, budget_bytes)
            run_clip(
                backbone,
                window.clip,
                selection,
                found,
                noise=noise,
                seed=seed + draw,
                steps=steps,
                prompt=prompt,
                guidance_scale=guidance_scale,
                negative_prompt=negative_prompt,
                conditioning=conditioning,
                on_step=found.after_step(tell, number * passes, len(runs) * passes, name),
            )
            found.take()
            label = f"{name}, window {window.index}" + (f", draw {draw}" if draws > 1 else "")
            entries.append(found.entry(label if len(clips) < len(runs) else name, name, draw))
    attrs = {
        "backbone": backbone.name,
        "config_hash": backbone.config_hash,
        "noise": noise,
        "seed": seed,
        "draws": draws,
        "steps": steps,
        "branch": next(iter(selection.branches)),
        "radius": radius,
        "prompt_for_all": prompt,
        "versions": library_versions(),
    }
    return xr.concat(entries, "clip").assign_attrs(attrs)


class _Found:
    """A sink that keeps the masses of each step and layer of one window, fetched once a step."""

    def __init__(self, clip: Clip, radius: int, budget_bytes: int) -> None:
        self.clip, self.radius, self.budget_bytes = clip, radius, budget_bytes
        self.masses: dict[tuple[int, int], xr.Dataset] = {}
        self._waiting: dict[tuple[int, int], PendingMasses] = {}
        self._pairs: MovingPairs | None = None

    def __call__(self, capture: Capture) -> None:
        self._waiting[capture.step, capture.layer] = masses_on_device(
            capture.query,
            capture.key,
            capture.layout,
            capture.text_key,
            self._moving_pairs(capture.layout),
            self.radius,
            self.budget_bytes,
        )

    def _moving_pairs(self, layout: TokenLayout) -> MovingPairs | None:
        """The pairs of the clip's points, which are the same in every capture; None for a clip without tracks."""
        if self._pairs is None and self.clip.tracks is not None and self.clip.visibility is not None:
            self._pairs = MovingPairs.of_tracks(self.clip.tracks, self.clip.visibility, layout, self.radius)
        return self._pairs

    def take(self) -> None:
        """Fetch the masses that are still on the device."""
        self.masses.update(zip(self._waiting, fetch_masses(list(self._waiting.values())), strict=True))
        self._waiting.clear()

    def after_step(self, tell: Tell | None, before: int, total: int, name: str) -> OnStep:
        """A callback that fetches the masses, then reports the progress over all clips."""

        def call(done: int, _: int) -> None:
            self.take()
            if tell is not None:
                tell(before + done, total, name)

        return call

    def entry(self, label: str, source: str, draw: int) -> xr.Dataset:
        """The masses as one entry along ``clip``."""
        steps, layers = (sorted({key[axis] for key in self.masses}) for axis in (0, 1))

        def stacked(name: str) -> np.ndarray:
            return np.stack([[self.masses[step, layer][name].values for layer in layers] for step in steps])[None]

        mass, uniform = stacked("mass"), stacked("uniform")
        pairs = next(iter(self.masses.values())).attrs["moving_pairs"]
        unit = {"units": "1"}
        return xr.Dataset(
            {
                "mass": (("clip", "step", "layer", "head", "target"), mass, {"long_name": "attention mass"} | unit),
                "uniform": (("clip", "step", "layer", "target"), uniform, {"long_name": "uniform mass"} | unit),
                "moving_pairs": ("clip", [pairs]),
            },
            {
                "clip": [label],
                "source": ("clip", [source]),
                "draw": ("clip", [draw]),
                "step": steps,
                "layer": layers,
                "head": np.arange(mass.shape[3]),
                "target": list(TARGETS),
            },
        )
