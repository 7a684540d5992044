"""The layer sweep: every measure at every selected layer and step, while the model samples or from recordings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import xarray as xr

from analyses.checkpoint import check_modes, check_output, digest_of, digest_of_value, finished_clips, save_sweep
from analyses.corners import Geometry
from analyses.measure import Measuring
from analyses.pieces import (
    Bar,
    Piece,
    Progress,
    Skipped,
    check_any_left,
    check_distinct,
    described,
    details_of,
    entry_of,
    named,
    truth_of,
    truth_of_tracks,
)
from analyses.recorded import sweep_recording
from analyses.results import Entry, Grid, combine, concatenate
from analyses.tensors import BUDGET_BYTES
from analyses.truth import Target
from probe import Backbone, Capture, Noise, pass_count, run_clip, run_prompt
from probe.backbone import OnStep
from probe.fitting import Window, cut_windows
from probe.run import check_noise
from store.clip import Clip
from store.errors import InvalidInputError
from store.selection import ResolvedSelection, Selection

__all__ = ["sweep", "sweep_recording"]


@dataclass(frozen=True)
class _Running:
    """How the model is run."""

    backbone: Backbone
    selection: Selection
    noise: Noise
    seed: int
    steps: int
    features: bool
    size: tuple[int, int] | None
    images: int | None
    stride: int
    prompt: str | None
    guidance_scale: float | None
    negative_prompt: str | None
    conditioning: Mapping[str, Any]

    def passes(self, source: Any) -> int:
        """Steps of the model for one piece."""
        if isinstance(source, str):
            return 1 + max(self.resolved().steps)
        return pass_count(self.selection, noise=self.noise, steps=self.steps)

    def resolved(self) -> ResolvedSelection:
        layers = self.backbone.layers
        return self.selection.resolve(len(layers), self.steps, min(layer.heads for layer in layers))

    def windows(self, clip: Clip) -> tuple[Window, ...]:
        return cut_windows(self.backbone, clip, size=self.size, images=self.images, stride=self.stride)

    def prompt_size(self) -> tuple[int, int, int]:
        default = self.backbone.default_size
        height, width = self.size or default[:2]
        return height, width, self.images or default.images

    def text_of(self, source: str | Clip) -> str | None:
        """What the model reads of a prompt or with a clip."""
        if isinstance(source, str):
            return source
        return self.backbone.caption_of(source) if self.prompt is None else self.prompt

    def run(self, source: str | Clip, sink: Callable[[Capture], None], on_step: OnStep) -> None:
        common: dict[str, Any] = {
            "seed": self.seed,
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "negative_prompt": self.negative_prompt,
            "conditioning": self.conditioning,
            "features": self.features,
            "on_step": on_step,
        }
        if isinstance(source, Clip):
            text = self.text_of(source)
            run_clip(self.backbone, source, self.selection, sink, noise=self.noise, prompt=text, **common)
            return
        height, width, images = self.prompt_size()
        common |= {"height": height, "width": width, "images": images, "want_clip": False}
        run_prompt(self.backbone, source, self.selection, sink, **common)


def sweep(
    backbone: Backbone,
    clips_or_prompts: Any,
    selection: Selection,
    *,
    noise: Noise = "forward",
    seed: int = 0,
    steps: int = 50,
    threshold_cells: float = 0.5,
    preset: Geometry = "exact",
    per_head: bool = False,
    features: bool = True,
    truth: Mapping[str, tuple[Any, Any]] | None = None,
    min_points: int = 4,
    size: tuple[int, int] | None = None,
    images: int | None = None,
    stride: int = 1,
    prompt: str | None = None,
    guidance_scale: float | None = None,
    negative_prompt: str | None = None,
    conditioning: Mapping[str, Any] | None = None,
    save: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    budget_bytes: int = BUDGET_BYTES,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Accuracy, confidence and attention score of every selected layer at every selected step.

    Nothing is stored on the way: each query and key is measured where it is made.

    Parameters
    ----------
    backbone : Backbone
    clips_or_prompts : mapping of names to Clip or str, or a sequence, or one of them
        A clip is noised to each step's timestep. A prompt is analysed while it is generated. Clips of another size are
        resized with their tracks, longer ones cut into windows (:func:`probe.fitting.cut_windows`); each window is
        an entry of ``clip``. A clip without tracks, and a prompt, get a grid of points and no accuracy.
    selection : Selection
        Steps, layers and heads; one branch. Heads that are left out do not count in the mean over heads.
    noise : "clean", "forward" or "inversion", see :func:`probe.run.run_states`
    seed : of the noise, or of the sampling; the same for every clip
    steps : denoising steps of the run
    threshold_cells : what counts as found, in cells; 0.5 is the published 8 px
    preset : "exact", or "difftrack" for the published geometry, indexing and counting
    per_head : measure each head alone too, as ``head_...`` variables with a dim ``head``
    features : match features too
    truth : mapping of names of ``clips_or_prompts`` to (tracks, visibility), for prompts; in pixels and images of the
        generated clip
    min_points : windows with fewer points to query are skipped, as those of one image are; ``attrs["skipped"]`` says so
    size, images, stride : how clips are cut, and the size of what prompts generate
    prompt : the text shown with every clip; by default the clip's own
    guidance_scale, negative_prompt, conditioning : as in :meth:`Backbone.generate`, the same for all clips and prompts;
        ``attrs["conditioning"]`` keeps a hash of each argument
    save : file to write after each finished clip, by custom ``.nc``; read it with ``load_sweep``
    resume : go on with that file where its settings and clips are the same
    overwrite : replace that file once the first clip is finished
    budget_bytes : working memory of the measuring
    progress : called with (steps of the model done, in all, name of the clip)

    Returns
    -------
    Dataset over ``clip``, ``step``, ``layer``, ``target`` (and ``head``)
        ``accuracy``, ``moving_accuracy``, ``feature_accuracy`` in percent; ``confidence`` and ``attention_score``
        (also over target); ``harmonic_mean`` (step, layer); ``static_accuracy``, ``points``, ``pairs`` and
        ``moving_pairs`` (clip). Its attrs say how it was made.

    Raises
    ------
    InvalidInputError, UnknownLayerError, OutputExistsError
        Before the model runs.
    RecordingError
        When the file cannot be written.

    Notes
    -----
    The query image and points hidden in it do not count (preset "difftrack" counts both). MATH.md, sections 2 to 4.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from probe.mini import MiniConfig, new_pipeline
    >>> from store.scene import make_scene
    >>> mini = load_backbone(new_pipeline(MiniConfig(layers=2)))
    >>> found = sweep(mini, {"scene": make_scene(0)}, Selection(steps=[0, -1], layers="all"))
    >>> dict(found["accuracy"].sizes)
    {'clip': 1, 'step': 2, 'layer': 2}
    """
    _check_run(noise, seed, steps)
    check_modes(save, resume=resume, overwrite=overwrite)
    how = Measuring(preset, threshold_cells, per_head, min_points, budget_bytes)
    running = _Running(
        backbone,
        selection,
        noise,
        seed,
        steps,
        features,
        size,
        images,
        stride,
        prompt,
        guidance_scale,
        negative_prompt,
        dict(conditioning or {}),
    )
    _check_selection(selection)
    resolved = running.resolved()
    backbone.check_ready()
    sources = named(clips_or_prompts, "clip")
    pieces, skipped = _pieces(running, sources, truth or {}, how, save is not None)
    check_any_left(pieces, skipped)
    attrs = _attrs_of_run(running, resolved) | how.attrs()
    names = tuple(backbone.layers[layer].name for layer in resolved.layers)
    grid = Grid(resolved.steps, resolved.layers, names, resolved.heads)
    done = _saved(save, resume, overwrite, attrs, pieces)
    bar = Bar(progress, pieces, {name: running.passes(source) for name, source in sources.items()})
    for source, group in groupby(pieces, key=lambda piece: piece.source):
        if source in done:
            bar.finish(source)
            continue
        done[source] = _run_source(running, sources[source], list(group), grid, how, bar)
        if save is not None:
            save_sweep(_whole(done, pieces, skipped, attrs), save)
    return _whole(done, pieces, skipped, attrs)


# What is swept -----------------------------------------------------------------------------------------------------


def _check_run(noise: str, seed: int, steps: int) -> None:
    check_noise(noise)
    if seed < 0:
        raise InvalidInputError(f"seed must not be negative; got {seed}.")
    if steps < 1:
        raise InvalidInputError(f"a run needs at least 1 step; got steps={steps}.")


def _check_selection(selection: Selection) -> None:
    if len(tuple(selection.branches)) != 1:
        raise InvalidInputError(
            f"a sweep looks at one branch; got {', '.join(selection.branches)}. Select branches=('cond',), and sweep "
            f"again for the other."
        )
    if selection.frames is not None:
        raise InvalidInputError(
            "a sweep needs every frame: its points are followed through all of them. Leave out frames."
        )


def _pieces(
    running: _Running, sources: Mapping[str, Any], truths: Mapping[str, Any], how: Measuring, digests: bool
) -> tuple[list[Piece], list[Skipped]]:
    unknown = [name for name in truths if name not in sources]
    if unknown:
        raise InvalidInputError(
            f"truth names {', '.join(map(repr, unknown))}, which is not swept. Swept: {', '.join(map(repr, sources))}."
        )
    found: list[Piece | Skipped] = []
    for name, source in sources.items():
        if isinstance(source, str | Clip):
            running.backbone.check_prompt(running.text_of(source), running.negative_prompt, running.conditioning)
        given = truths.get(name)
        if isinstance(source, Clip):
            if given is not None:
                raise InvalidInputError(f"clip {name!r} has tracks of its own. Give truth for prompts only.")
            found += _clip_pieces(running, name, source, how, digest_of(source) if digests else "")
        elif isinstance(source, str):
            digest = digest_of(None, source, *(given or ())) if digests else ""
            found.append(_prompt_piece(running, name, source, given, how, digest))
        else:
            raise InvalidInputError(f"{name!r} is a {type(source).__name__}; a sweep takes clips and prompts.")
    pieces = [item for item in found if isinstance(item, Piece)]
    check_distinct([piece.name for piece in pieces])
    return pieces, [item for item in found if isinstance(item, Skipped)]


def _clip_pieces(running: _Running, name: str, clip: Clip, how: Measuring, digest: str) -> Iterator[Piece | Skipped]:
    windows = running.windows(clip)
    for window in windows:
        size, first = window.size, window.first_image
        truth = truth_of(window.clip, running.backbone.layout(*size), how.preset, how.min_points, first)
        if isinstance(truth, str):
            yield Skipped(name, window.index, first, truth)
            continue
        label = name if len(windows) == 1 else f"{name} [{window.index}]"
        details = {
            "images": str(window),
            "of_windows": len(windows),
            "resized_from": None if size[:2] == window.original[:2] else list(window.original[:2]),
            **details_of(truth, running.text_of(window.clip), digest),
        }
        yield Piece(label, name, window.index, first, truth, details)


def _prompt_piece(
    running: _Running, name: str, prompt: str, given: Any, how: Measuring, digest: str
) -> Piece | Skipped:
    size = running.prompt_size()
    truth = truth_of_tracks(given, running.backbone.layout(*size), how.preset, how.min_points)
    if isinstance(truth, str):
        return Skipped(name, 0, 0, truth)
    made = f"{size[2]} generated images of {size[0]} x {size[1]} px"
    return Piece(name, name, 0, 0, truth, {"images": made, **details_of(truth, prompt, digest)})


# Running -----------------------------------------------------------------------------------------------------------


def _run_source(
    running: _Running, source: str | Clip, pieces: list[Piece], grid: Grid, how: Measuring, bar: Bar
) -> xr.Dataset:
    """All pieces of one clip or prompt."""
    windows = running.windows(source) if isinstance(source, Clip) else ()
    entries = []
    for number, piece in enumerate(pieces):
        shown = windows[piece.window].clip if isinstance(source, Clip) else source
        tell = partial(bar.tell, piece.name, number * running.passes(source))
        entries.append(_run_piece(running, shown, piece, grid, how, tell))
    bar.finish(pieces[0].source)
    return concatenate(entries)


def _run_piece(
    running: _Running, source: str | Clip, piece: Piece, grid: Grid, how: Measuring, tell: OnStep
) -> xr.Dataset:
    targets: list[Target] = []
    entries: list[Entry] = []

    def sink(capture: Capture) -> None:
        if not targets:
            targets.append(how.target(piece.truth, capture.layout, capture.query.device))
            entries.append(entry_of(piece, grid, targets[0]))
        values = how.values(capture.query, capture.key, targets[0], capture.text_key, capture.features)
        entries[0].add(capture.step, capture.layer, values)
        entries[0].timesteps[capture.step] = capture.timestep

    running.run(source, sink, tell)
    return entries[0].to_dataset()


def _saved(
    save: str | os.PathLike[str] | None, resume: bool, overwrite: bool, attrs: Mapping[str, Any], pieces: list[Piece]
) -> dict[str, xr.Dataset]:
    """The finished clips of a saved sweep by source; those whose every window is there."""
    if save is None:
        return {}
    check_output(save, resume=resume, overwrite=overwrite)
    digests = {piece.source: piece.details["digest"] for piece in pieces}
    saved = finished_clips(save, attrs, digests) if resume else None
    if saved is None:
        return {}
    saved = saved.drop_vars("harmonic_mean")
    sources = saved["source"].values.astype(str)
    return {str(name): saved.isel(clip=np.flatnonzero(sources == name)) for name in dict.fromkeys(sources)}


def _whole(
    done: Mapping[str, xr.Dataset], pieces: list[Piece], skipped: list[Skipped], attrs: Mapping[str, Any]
) -> xr.Dataset:
    """The finished clips in the order asked for."""
    finished = [piece for piece in pieces if piece.source in done]
    order = list(dict.fromkeys(piece.source for piece in finished))
    return combine([done[source] for source in order], dict(attrs) | described(finished, skipped))


# What is said of it ------------------------------------------------------------------------------------------------


def _attrs_of_run(running: _Running, resolved: ResolvedSelection) -> dict[str, Any]:
    backbone = running.backbone
    hashes = {name: digest_of_value(value) for name, value in sorted(running.conditioning.items())}
    return {
        "backbone": backbone.name,
        "revision": backbone.revision or "",
        "config_hash": backbone.config_hash,
        "scheduler": type(backbone.pipeline.scheduler).__name__,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "noise": running.noise,
        "seed": running.seed,
        "steps": running.steps,
        "branch": resolved.branches[0],
        "selected_steps": list(resolved.steps),
        "selected_layers": list(resolved.layers),
        "selected_heads": list(resolved.heads),
        "guidance_scale": running.guidance_scale,
        "negative_prompt": running.negative_prompt or "",
        "prompt_for_all": running.prompt,
        "size": None if running.size is None else list(running.size),
        "images": running.images,
        "stride": running.stride,
        "features": running.features,
        **({"conditioning": hashes} if hashes else {}),
    }
