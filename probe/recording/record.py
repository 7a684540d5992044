"""Recording: queries and keys of a clip or a prompt, from the model to the disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from probe.backbones.backbone import Backbone
from probe.backbones.pipeline_call import OnStep
from probe.backbones.settings import RequestedSize, RunSettings
from probe.capture.capture import Capture
from probe.recording.plan import RecordingPlan, estimate_seconds, plan_recording
from probe.recording.staging import Staging
from probe.run.run import sample_prompt, show_clip
from probe.run.windows import Window
from store.arguments import checked_but
from store.bfloat16 import StoredDtype
from store.clips.clip import Clip
from store.clips.digest import digest_of_images
from store.clips.encoding import check_clip_path
from store.clips.video import write_clip
from store.plan import DEFAULT_LIMIT_BYTES
from store.progress import progress_bar
from store.recordings.provenance import Provenance
from store.recordings.reader import Recording, open_recording
from store.recordings.writer import Ready, RecordingWriter
from store.selection import Noise, Selection

__all__ = ["RecordingPlan", "RecordingSink", "check_clip_path", "estimate_seconds", "plan_recording", "record"]


@dataclass(frozen=True)
class RecordingSink:
    """A probe's sink that hands every capture to a recording's writer, cast on its device and never waited for."""

    writer: RecordingWriter
    sigmas: tuple[float, ...]
    _staging: dict[torch.device, Staging] = field(default_factory=dict, repr=False)

    def __call__(self, capture: Capture) -> None:
        device = capture.query.device
        if device not in self._staging:
            self._staging[device] = Staging(device)
            self.writer.use_memory(self._staging[device].allocate)
        staging = self._staging[device]
        planned = [array.name for array in self.writer.plan.arrays]

        def fill(parts: dict[str, np.ndarray]) -> Ready:
            ready = staging.fill({name: getattr(capture, name) for name in planned}, parts)
            if device.type == "cpu":  # known already: what is wrong is raised now
                casts = ready()
                self.writer.check_casts(casts, step=capture.step, layer=capture.layer, branch=capture.branch)
            return ready

        self.writer.write_filled(
            fill,
            step=capture.step,
            layer=capture.layer,
            branch=capture.branch,
            timestep=capture.timestep,
            sigma=self.sigmas[capture.step],
        )


@checked_but("source")
def record(
    backbone: Backbone,
    source: str | Clip | None,
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
    values: bool = False,
    stored_dtype: StoredDtype = "float16",
    limit_bytes: int | None = DEFAULT_LIMIT_BYTES,
    overwrite: bool = False,
    resume: bool = False,
    save_clip: str | os.PathLike[str] | None = None,
    on_step: OnStep | bool | None = None,
) -> Recording:
    """Run a clip or a prompt through a backbone and store the selected queries and keys.

    Parameters
    ----------
    backbone : Backbone
    source : str, Clip or None
        A prompt is recorded while it is sampled. A clip is shown to the model at the selected steps. None is a prompt
        that is given in ``conditioning``, as ``prompt_embeds``.
    selection : Selection
    path : the recording to create, by custom ``<name>.zarr``
    noise : "clean", "forward" or "inversion"
        How a clip is noised, see :func:`probe.run.run.run_states`. Does not apply to a prompt.
    seed : int
        Seed of the sampling, or of the noise.
    steps : int
        Denoising steps of the run.
    window, size, images, stride
        Which part of a clip, and how it is resized: see :func:`probe.run.windows.cut_windows`. For a prompt, ``size``
        and ``images`` are those of the generated clip.
    guidance_scale, negative_prompt, conditioning
        As in :meth:`Backbone.generate`.
    prompt : str, optional
        With a clip: the text the model is given, by default the clip's own.
    features : bool
        Store the attention output too.
    values : bool
        Store the values too: what each head carries from the cells that it attends to.
    stored_dtype : "float16" or "bfloat16"
        What is written. bfloat16 keeps every number of a model in bfloat16 to the bit, those beyond float16 too; it is
        read as float32, which holds the same numbers.
    limit_bytes : int or None
        Reject a larger plan.
    overwrite, resume : bool
        Replace an existing recording, or complete one of the same run; both replace the file ``save_clip``. Resuming
        reads what is there once, compares it with its checksums, and records again what is damaged or missing.
    save_clip : path, optional
        Where to write the clip that the model generated or was shown. Where nothing is left to record, a prompt is
        sampled again for it.
    on_step : callable, optional
        Called with (steps done, steps to do). By default a bar in notebooks and interactive sessions; False for none.

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
        values=values,
        stored_dtype=stored_dtype,
        limit_bytes=limit_bytes,
    )
    if save_clip is not None:
        check_clip_path(save_clip, overwrite=overwrite or resume)
    text = prompt if isinstance(source, Clip) and prompt is not None else source
    text = backbone.caption_of(text) if isinstance(text, Clip) else text
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
        extra={
            **({} if job.window is None else _described(job.window)),
            **_token_names(backbone, job.plan.branches, text, negative_prompt, conditioning),
        },
    )
    settings = RunSettings(seed, steps, RequestedSize(*job.size), guidance_scale, negative_prompt, conditioning)
    with (
        progress_bar(on_step, "recording", name="on_step") as tell,
        RecordingWriter(path, job.plan, provenance=provenance, overwrite=overwrite, resume=resume) as writer,
    ):
        missing = _missing(writer, selection)
        sink = RecordingSink(writer, backbone.schedule(steps, job.size).noise[:-1])
        clip: Clip | None = None
        options: dict[str, Any] = {"features": features, "on_step": tell}
        if job.window is not None:
            clip = job.window.clip
            if missing is not None:
                show_clip(backbone, job.window.clip, missing, sink, settings, noise=noise, prompt=text, **options)
        elif missing is not None:
            clip = sample_prompt(backbone, text, missing, sink, settings, want_clip=save_clip is not None, **options)
        elif save_clip is not None:  # nothing is left to record, but the clip is wanted
            clip = backbone.call_pipeline(backbone.arguments(text, settings), prompt=text, on_step=tell)
    if save_clip is not None and clip is not None:
        write_clip(save_clip, clip, overwrite=overwrite or resume)
    return open_recording(path)


def _token_names(
    backbone: Backbone,
    branches: tuple[str, ...],
    prompt: str | None,
    negative_prompt: str | None,
    conditioning: Mapping[str, Any] | None,
) -> dict[str, dict[str, list[str]]]:
    """``text_tokens``: those of each branch by name, where the backbone knows them and the text is not embeddings."""
    if conditioning is not None and backbone.embeddings in conditioning:
        return {}
    texts = {"cond": prompt, "uncond": negative_prompt or ""}
    names = {branch: backbone.token_names(texts[branch]) for branch in branches}
    known = {branch: list(tokens) for branch, tokens in names.items() if tokens is not None}
    return {"text_tokens": known} if known else {}


def _described(window: Window) -> dict[str, Any]:
    """The part of the clip; the hash keeps a recording from being resumed with another clip."""
    return {
        "images": str(window),
        "first_image": window.first_image,
        "stride": window.stride,
        "clip_hash": digest_of_images(window.clip.images),
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
