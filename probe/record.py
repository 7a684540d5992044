"""Recording: queries and keys of a clip or a prompt, from the model to the disk."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from probe.arguments import described
from probe.backbone import Backbone, OnStep
from probe.capture import Capture
from probe.fitting import Window, cut_windows
from probe.forward import ForwardPass
from probe.geometry import Size
from probe.run import Noise, check_noise, pass_count, run_clip, run_prompt
from store.clip import Clip
from store.errors import ClipError, InvalidInputError, OutputExistsError
from store.plan import DEFAULT_LIMIT_BYTES, Plan
from store.provenance import Provenance
from store.recording import Recording, open_recording
from store.recording_writer import RecordingWriter
from store.selection import Selection
from store.video import extras_path, write_clip


@dataclass(frozen=True, repr=False)
class Job:
    """What a recording will do: printed and checked before the model runs.

    Parameters
    ----------
    plan : Plan
    window : Window or None
        The part of the clip that is recorded; None for a prompt.
    size : Size
        What the model sees or generates.
    passes : int
        Calls of the transformer for all branches.
    """

    plan: Plan
    window: Window | None
    size: Size
    passes: int

    def __repr__(self) -> str:
        source = "a prompt, while it is sampled" if self.window is None else str(self.window)
        return f"{self.plan!r}\n  source    {source}\n  model     {self.passes} forward passes at {self.size}"


def _host(tensor: torch.Tensor | None) -> np.ndarray | None:
    """A tensor as numpy; bfloat16, which numpy has not, as float32."""
    if tensor is None:
        return None
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()


@dataclass(frozen=True)
class RecordingSink:
    """A probe's sink that hands every capture to a recording's writer."""

    writer: RecordingWriter
    sigmas: tuple[float, ...]

    def __call__(self, capture: Capture) -> None:
        arrays: dict[str, Any] = {
            name: _host(getattr(capture, name)) for name in ("query", "key", "text_query", "text_key", "features")
        }
        self.writer.write(
            step=capture.step,
            layer=capture.layer,
            branch=capture.branch,
            timestep=capture.timestep,
            sigma=self.sigmas[capture.step],
            **arrays,
        )


def plan_recording(
    backbone: Backbone,
    source: str | Clip,
    selection: Selection,
    *,
    noise: Noise = "clean",
    steps: int = 50,
    window: int = 0,
    size: tuple[int, int] | None = None,
    images: int | None = None,
    stride: int = 1,
    conditioning: Mapping[str, Any] | None = None,
    features: bool = False,
    limit_bytes: int | None = DEFAULT_LIMIT_BYTES,
) -> Job:
    """What :func:`record` would do with the same arguments, without running the model.

    Raises
    ------
    InvalidInputError, UnknownLayerError, PlanTooLargeError
    """
    check_noise(noise)
    if not isinstance(source, str | Clip):
        raise InvalidInputError(
            f"record takes one prompt or one Clip; got {described(source)}. Call it once for each, with its own path."
        )
    backbone.check_steps(steps)
    if isinstance(source, Clip):
        chosen = _window(cut_windows(backbone, source, size=size, images=images, stride=stride), window)
        shape, prompt, count = chosen.size, source.prompt, pass_count(selection, noise=noise, steps=steps)
    else:
        if window or stride != 1:
            raise InvalidInputError("window and stride choose a part of a clip; a prompt has none.")
        default = backbone.default_size
        height, width = size or default[:2]
        chosen, shape, prompt = None, Size(height, width, images or default.images), source
        count = steps
    # where a run's text is not this one prompt, there is room for as much text as the backbone takes
    one_text = tuple(selection.branches) == ("cond",) and "prompt_embeds" not in (conditioning or {})
    layout = backbone.layout(*shape, prompt if one_text else None)
    plan = selection.plan(backbone, layout, steps, features=features, limit_bytes=limit_bytes)
    return Job(plan, chosen, shape, count * len(plan.branches))


def check_clip_path(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse, before a model runs, a path to which no clip can be written afterwards.

    Parameters
    ----------
    path : of a video to be written by :func:`store.video.write_clip`
    overwrite : bool
        Whether an existing video is to be replaced.

    Raises
    ------
    OutputExistsError
        The video, or the npz beside it, exists.
    InvalidInputError
        A suffix that cannot hold the video, a folder, or a folder that cannot be made.

    Examples
    --------
    >>> check_clip_path("made.txt")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: a clip cannot be saved to made.txt: '.txt' holds no H.264 video. Name it made.mp4.
    """
    path = Path(path)
    if path.is_dir():
        raise InvalidInputError(
            f"a clip cannot be saved to {path}: it is a folder. Name a file, such as {path / 'clip.mp4'}."
        )
    taken = [str(file) for file in (path, extras_path(path)) if file.exists()]
    if taken and not overwrite:
        exist = "exists" if len(taken) == 1 else "exist"
        raise OutputExistsError(
            f"{' and '.join(taken)} {exist} already. Choose another path for the clip, or pass overwrite=True."
        )
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        what = "not writable" if folder.is_dir() else "no folder"
        raise InvalidInputError(f"a clip cannot be saved to {path}: {folder} is {what}. Choose another path.")
    with tempfile.TemporaryDirectory() as trial:
        try:
            write_clip(f"{trial}/trial{path.suffix}", Clip(np.zeros((1, 16, 16, 3), np.uint8), fps=8))
        except (ClipError, InvalidInputError) as error:
            holds = f"{path.suffix!r} holds no H.264 video" if path.suffix else "it has no video suffix"
            named = path.with_suffix(".mp4")
            raise InvalidInputError(f"a clip cannot be saved to {path}: {holds}. Name it {named}.") from error


def _window(windows: tuple[Window, ...], index: int) -> Window:
    if not 0 <= index < len(windows):
        raise InvalidInputError(f"window {index} does not exist: the clip has windows 0 to {len(windows) - 1}.")
    return windows[index]


def estimate_seconds(
    backbone: Backbone, job: Job, prompt: str | None = None, *, conditioning: Mapping[str, Any] | None = None
) -> float:
    """Seconds that the model alone will take, from timing one forward pass (the second, after a warm-up)."""
    height, width, images = job.size
    blank = Clip(np.zeros((images, height, width, 3), np.uint8), fps=backbone.fps)
    forward = ForwardPass(
        backbone,
        prompt,
        steps=job.plan.run_steps,
        height=height,
        width=width,
        images=images,
        conditioning={**backbone.conditioning_of(blank), **(conditioning or {})},
    )
    latents = backbone.encode(blank)
    took = 0.0
    for _ in range(2):
        began = time.perf_counter()
        with torch.no_grad():
            forward.predict(latents, -1, capture=False)
        if latents.is_cuda:
            torch.cuda.synchronize()
        took = time.perf_counter() - began
    return took * job.passes


def record(
    backbone: Backbone,
    source: str | Clip,
    selection: Selection,
    path: str | os.PathLike[str],
    *,
    noise: Noise = "clean",
    seed: int = 0,
    steps: int = 50,
    window: int = 0,
    guidance_scale: float | None = None,
    negative_prompt: str | None = None,
    prompt: str | None = None,
    conditioning: Mapping[str, Any] | None = None,
    size: tuple[int, int] | None = None,
    images: int | None = None,
    stride: int = 1,
    features: bool = False,
    limit_bytes: int | None = DEFAULT_LIMIT_BYTES,
    overwrite: bool = False,
    resume: bool = False,
    save_clip: str | os.PathLike[str] | None = None,
    on_step: OnStep | None = None,
) -> Recording:
    """Run a clip or a prompt through a backbone and store the selected queries and keys.

    Parameters
    ----------
    backbone : Backbone
    source : str or Clip
        A prompt is recorded while it is sampled. A clip is shown to the model at the selected steps.
    selection : Selection
    path : the recording to create, by custom ``<name>.zarr``
    noise : "clean", "forward" or "inversion"
        How a clip is noised, see :func:`probe.run.run_states`. Does not apply to a prompt.
    seed : int
        Of the sampling, or of the noise.
    steps : int
        Denoising steps of the run.
    window, size, images, stride
        Which part of a clip, and how it is resized: see :func:`probe.fitting.cut_windows`. For a prompt, ``size`` and
        ``images`` are those of the generated clip.
    guidance_scale, negative_prompt, conditioning
        As in :meth:`Backbone.generate`.
    prompt : str, optional
        With a clip: the text the model is given, by default the clip's own.
    features : bool
        Store the attention output too.
    limit_bytes : int or None
        Refuse a larger plan.
    overwrite, resume : bool
        Replace an existing recording, or complete one of the same run; both replace the file ``save_clip``.
    save_clip : path, optional
        Where to write the clip that the model generated or was shown. Where nothing is left to record, a prompt is
        sampled again for it.
    on_step : callable, optional
        Called with (steps done, steps to do).

    Returns
    -------
    Recording

    Raises
    ------
    InvalidInputError, UnknownLayerError, PlanTooLargeError, OutputExistsError, RecordingError
        All but the last before the model runs.

    Examples
    --------
    >>> import tempfile
    >>> from probe import load_backbone
    >>> from probe.mini import MiniConfig, new_pipeline
    >>> from store import Selection, make_scene
    >>> mini = load_backbone(new_pipeline(MiniConfig(layers=2)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = record(mini, make_scene(0), Selection(steps=[-1], layers=[1]), f"{folder}/run.zarr")
    ...     query, key = run.read(step=-1, layer=1)
    >>> query.shape
    (4, 6, 10, 10, 32)
    """
    job = plan_recording(
        backbone,
        source,
        selection,
        noise=noise,
        steps=steps,
        window=window,
        size=size,
        images=images,
        stride=stride,
        conditioning=conditioning,
        features=features,
        limit_bytes=limit_bytes,
    )
    if save_clip is not None:
        check_clip_path(save_clip, overwrite=overwrite or resume)
    text = source if isinstance(source, str) else backbone.caption_of(source) if prompt is None else prompt
    backbone.check_prompt(text, negative_prompt, conditioning)
    provenance = Provenance(
        model=backbone.name,
        revision=backbone.revision,
        config_hash=backbone.config_hash,
        source="prompt" if job.window is None else "clip",
        prompt=text,
        negative_prompt=negative_prompt,
        seed=seed,
        scheduler=type(backbone.pipeline.scheduler).__name__,
        guidance_scale=guidance_scale,
        noise=None if job.window is None else noise,
        window=None if job.window is None else window,
        softmax_scale=job.plan.channels**-0.5,
        source_dtype=str(backbone.dtype).removeprefix("torch."),
        extra={} if job.window is None else _described(job.window),
    )
    common: dict[str, Any] = {
        "seed": seed,
        "steps": steps,
        "guidance_scale": guidance_scale,
        "negative_prompt": negative_prompt,
        "conditioning": conditioning,
        "features": features,
        "on_step": on_step,
    }
    with RecordingWriter(path, job.plan, provenance=provenance, overwrite=overwrite, resume=resume) as writer:
        missing = _missing(writer, selection)
        sink = RecordingSink(writer, backbone.sigmas(steps))
        clip = _run(backbone, job, missing, sink, noise, text, save_clip is not None, common)
    if save_clip is not None and clip is not None:
        write_clip(save_clip, clip, overwrite=overwrite or resume)
    return open_recording(path)


def _run(
    backbone: Backbone,
    job: Job,
    missing: Selection | None,
    sink: RecordingSink,
    noise: Noise,
    text: str | None,
    want_clip: bool,
    common: dict[str, Any],
) -> Clip | None:
    """Record what is missing; the clip that was shown, or generated where it is wanted."""
    if job.window is not None:
        if missing is not None:
            run_clip(backbone, job.window.clip, missing, sink, noise=noise, prompt=text, **common)
        return job.window.clip
    size: dict[str, Any] = dict(zip(("height", "width", "images"), job.size, strict=True))
    if missing is not None:
        return run_prompt(backbone, text, missing, sink, want_clip=want_clip, **size, **common)
    if not want_clip:
        return None
    return backbone.generate(text, **size, **{name: value for name, value in common.items() if name != "features"})


def _described(window: Window) -> dict[str, Any]:
    """Which part of which clip; the hash keeps a recording from being resumed with another clip."""
    return {
        "images": str(window),
        "first_image": window.first_image,
        "stride": window.stride,
        "clip_hash": hashlib.sha256(window.clip.images.tobytes()).hexdigest()[:12],
    }


def _missing(writer: RecordingWriter, selection: Selection) -> Selection | None:
    """The selection without the steps that an earlier run has finished; None when nothing is left."""
    plan = writer.plan
    steps = [
        step
        for step in plan.steps
        if not all(writer.is_done(step, layer, branch) for layer in plan.layers for branch in plan.branches)
    ]
    return replace(selection, steps=steps) if steps else None
