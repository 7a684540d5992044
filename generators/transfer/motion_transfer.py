"""Motion transfer: a clip of a new prompt with the motion of a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from analyses.selection.layer_selection import LayerSelection
from generators.sampling.sample import GuidedSampling
from generators.sampling.scheduler import check_editable
from generators.sampling.step import Step
from generators.sampling.strategy import Strategy
from generators.transfer.ditflow import DiTFlow
from generators.transfer.embedding import MotionEmbedding
from generators.transfer.method import TransferMethod
from generators.transfer.optimised import Optimisation, OptimisedMethod
from generators.transfer.reference_clip import Reference, fit_reference, text_arguments
from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from probe.backbones.pipeline_call import OnStep
from probe.backbones.settings import RequestedSize, RunSettings
from probe.run.run import EndRun
from store.arguments import check_fields, checked
from store.checks import height_and_width
from store.clips.clip import Clip
from store.clips.digest import digest_of_clip
from store.errors import InvalidInputError
from store.progress import progress_bar
from store.recordings.provenance import library_versions


@checked
def transfer_motion(
    backbone: Backbone,
    reference: Clip,
    prompt: str | None,
    *,
    method: TransferMethod = DiTFlow(),  # noqa: B008
    seed: int = 0,
    steps: int = 50,
    size: tuple[int, int] | None = None,
    height: int | None = None,
    width: int | None = None,
    images: int | None = None,
    guidance_scale: float | None = None,
    negative_prompt: str | None = None,
    conditioning: Mapping[str, Any] | None = None,
    reference_conditioning: Mapping[str, Any] | None = None,
    gradient_checkpointing: bool = False,
    on_step: OnStep | bool | None = None,
) -> Clip:
    """Generate a clip of a prompt with the motion of a reference.

    Parameters
    ----------
    backbone : Backbone
    reference : Clip
        A clip of another length or size is fitted (:func:`generators.transfer.reference_clip.fit_reference`), with a
        :class:`generators.transfer.reference_clip.TransferWarning`.
    prompt : str
        Content of the clip. A prompt that describes a motion other than the reference's works against the transfer.
    method : TransferMethod
        :class:`DiTFlow`, :class:`SMM`, :class:`MOFT`, :class:`MotionClone`, :class:`Injection` or
        :class:`PlainBackbone`.
    seed, steps, size, height, width, images, guidance_scale, negative_prompt, conditioning, gradient_checkpointing
        As in :func:`generators.sample`.
    on_step : callable, optional
        Called with (steps done, total). By default a bar in notebooks and interactive sessions; False for none.
    reference_conditioning : mapping, optional
        Arguments of the pipeline for the pass of the reference, which has the empty prompt. By default the guidance
        scale, and the text arguments of ``conditioning`` if that has ``prompt_embeds``: the reference is then read with
        the *new* prompt, unlike in DiTFlow. Pass ``{"prompt_embeds": ...}`` of the empty prompt to read it as
        published.

    Returns
    -------
    Clip
        Images uint8 (image, y, x, 3).

    Raises
    ------
    InvalidInputError
        Before the model runs, for what the backbone or the method rejects; ClipError for a reference of one image, or
        one whose aspect would change more than twofold.
    UnknownLayerError
        For a layer that does not exist.
    UnsupportedBackboneError
        For a scheduler under which latents cannot be edited.
    GuidanceDivergedError
        When the loss or an updated tensor is not finite; names the step and holds the last good latents.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from store.scenes.scene import make_scene
    >>> reference = make_scene(3, prompt="a red disc moves left over blue stripes")
    >>> prompt = "a green star moves left over white dots"
    >>> transfer_motion(load_backbone("mini"), reference, prompt, method=DiTFlow(iterations=1), steps=2).images.shape
    (6, 40, 40, 3)
    """
    height, width = height_and_width(size, height, width)
    transfer = MotionTransfer(
        backbone,
        reference,
        prompt,
        method=method,
        seed=seed,
        steps=steps,
        height=height,
        width=width,
        images=images,
        guidance_scale=guidance_scale,
        negative_prompt=negative_prompt,
        conditioning=conditioning,
        reference_conditioning=reference_conditioning,
        gradient_checkpointing=gradient_checkpointing,
    )
    with progress_bar(on_step, "transferring", name="on_step") as tell:
        return transfer.run(on_step=tell).clip


@dataclass(frozen=True, eq=False)
class Transferred:
    """Result of a motion transfer.

    Parameters
    ----------
    clip : Clip
    losses : mapping from step to the losses before each iteration
        Empty for methods without optimisation.
    embedding : MotionEmbedding or None
        The optimised positions, if the method optimises them.
    """

    clip: Clip
    losses: Mapping[int, Sequence[float]]
    embedding: MotionEmbedding | None


@dataclass(frozen=True, eq=False, repr=False)
class MotionTransfer:
    """A motion transfer, to be run as a whole or only for its optimised positions.

    Parameters
    ----------
    As of :func:`transfer_motion`.

    Raises
    ------
    As :func:`transfer_motion`; settings that do not fit the backbone are rejected on construction.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from store.scenes.scene import make_scene
    >>> reference = make_scene(3, prompt="a red disc moves left over blue stripes")
    >>> prompt, method = "a green star moves left over white dots", DiTFlow(optimise="positions", iterations=1)
    >>> MotionTransfer(load_backbone("mini"), reference, prompt, method=method, steps=5).optimise()
    MotionEmbedding('mini', 40 x 40 px and 6 images, 1 of 5 steps: AddedPositions(table: 6 x 10 x 10 x 128))
    """

    backbone: Backbone
    reference: Clip
    prompt: str | None
    method: TransferMethod = DiTFlow()  # noqa: RUF009
    seed: int = 0
    steps: int = 50
    height: int | None = None
    width: int | None = None
    images: int | None = None
    guidance_scale: float | None = None
    negative_prompt: str | None = None
    conditioning: Mapping[str, Any] | None = None
    reference_conditioning: Mapping[str, Any] | None = None
    gradient_checkpointing: bool = False
    size: Size = field(init=False)

    def __post_init__(self) -> None:
        check_fields(self)
        check_editable(self.backbone.pipeline.scheduler)
        arguments = self._arguments()
        size = Size(*(int(arguments[name]) for name in ("height", "width", "num_frames")))
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "reference", fit_reference(self.reference, size))

    def __repr__(self) -> str:
        return (
            f"MotionTransfer({self.backbone.name!r}, {self.size}, {self.steps} steps, {self.prompt!r}, {self.method})"
        )

    def run(self, *, on_step: OnStep | None = None) -> Transferred:
        """Generate the clip."""
        strategies = self._strategies()
        arguments = self._arguments()
        with GuidedSampling(self.backbone, strategies, arguments, gradient_checkpointing=self.gradient_checkpointing):
            clip = self.backbone.call_pipeline(arguments, prompt=self.prompt, on_step=on_step)
        if not isinstance(self.method, OptimisedMethod):
            return Transferred(clip, {}, None)
        found = _optimisation(strategies)
        return Transferred(clip, dict(found.history), self._embedding(found) if found.positions else None)

    def optimise(self, *, on_step: OnStep | None = None) -> MotionEmbedding:
        """Optimise the positions and end the run there, which saves the remaining steps.

        Raises
        ------
        InvalidInputError
            For a method that optimises no positions.
        """
        method = self.method
        if not isinstance(method, OptimisedMethod) or method.optimise != "positions":
            raise InvalidInputError(f"{method} optimises no positions. Choose DiTFlow(optimise='positions').")
        strategies = self._strategies()
        arguments = self._arguments()
        stop = _StopAfter(len(method.rates(self.backbone, self.steps)))
        sampling = GuidedSampling(
            self.backbone, (*strategies, stop), arguments, gradient_checkpointing=self.gradient_checkpointing
        )
        try:
            with sampling:
                self.backbone.call_pipeline(arguments, prompt=self.prompt, on_step=on_step)
        except EndRun:
            pass
        return self._embedding(_optimisation(strategies))

    @cached_property
    def seen(self) -> Reference:
        """The reference as the backbone sees it."""
        given = self.reference_conditioning
        if given is None:
            conditioning = self.conditioning or {}
            given = text_arguments(conditioning) if self.backbone.embeddings in conditioning else {}
            guidance = conditioning.get("guidance_scale", self.guidance_scale)
            if guidance is not None:  # an input of models with distilled guidance; without effect for others
                given["guidance_scale"] = guidance
        prompt = None if self.backbone.embeddings in given else ""
        return Reference(self.backbone, self.reference, self.steps, prompt, given)

    def _strategies(self) -> tuple[Strategy, ...]:
        return self.method.strategies(self.seen)

    def _arguments(self) -> dict[str, Any]:
        """Arguments of the pipeline, with a new random generator."""
        size = RequestedSize(self.height, self.width, self.images)
        settings = RunSettings(
            self.seed, self.steps, size, self.guidance_scale, self.negative_prompt, self.conditioning
        )
        return self.backbone.arguments(self.prompt, settings)

    def _embedding(self, found: Optimisation) -> MotionEmbedding:
        details = {
            "revision": self.backbone.revision,
            "config_hash": self.backbone.config_hash,
            "method": {"name": type(found.method).__name__, **_settings(found.method)},
            "layers": list(found.losses_of),
            "learning_rates": list(found.method.rates(self.backbone, self.steps)),
            "timesteps": list(found.timesteps.values()),
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "seed": self.seed,
            "guidance_scale": self.guidance_scale,
            "reference": digest_of_clip(self.reference),
            "reference_prompt": self.reference.prompt,
            "versions": library_versions(),
        }
        return MotionEmbedding(self.backbone.name, self.size, self.steps, dict(found.positions), details)


def _settings(method: OptimisedMethod) -> dict[str, Any]:
    """Fields of a method as JSON can hold them; a layer selection becomes its layers."""
    found = {each.name: getattr(method, each.name) for each in fields(method)}
    return {name: list(value) if isinstance(value, LayerSelection) else value for name, value in found.items()}


class _StopAfter(Strategy):
    """A strategy that ends the run before a step."""

    def __init__(self, count: int) -> None:
        self._count = count

    def before(self, step: Step) -> None:
        if step.number == self._count:
            raise EndRun


def _optimisation(strategies: Sequence[Strategy]) -> Optimisation:
    return next(strategy for strategy in strategies if isinstance(strategy, Optimisation))
