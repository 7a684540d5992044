"""Methods of motion transfer that train an adapter on the reference, and what they leave: a fitted motion."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from generators.adapters.adapter import LayerChoice, MotionAdapter
from generators.adapters.motion_tracks import MotionTracks
from generators.adapters.training.settings import Losses, Training
from generators.adapters.training.train import OnTrainingStep, train_adapter
from generators.sampling.step import Run
from generators.sampling.strategy import Strategy
from generators.transfer.method import TransferMethod
from generators.transfer.reference_clip import Reference, fit_reference
from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from store.arguments import check_fields, checked
from store.checks import finite
from store.clips.clip import Clip
from store.clips.digest import digest_of_clip
from store.recordings.provenance import library_versions


class AttachAdapter(Strategy):
    """A strategy for :func:`generators.sample`: an adapter adds to some layers during a run.

    Parameters
    ----------
    adapter : MotionAdapter
    layers, keep
        Which layers add, as in :meth:`generators.adapters.adapter.MotionAdapter.kept`.

    Raises
    ------
    InvalidInputError, UnknownLayerError
        For layers that the adapter does not have, and, before the model runs, for another backbone.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from generators import sample
    >>> from generators.adapters.temporal_kernel import TemporalKernel
    >>> backbone = load_backbone("mini")
    >>> strategy = AttachAdapter(TemporalKernel(backbone), keep=0.5)
    >>> sample(backbone, "a red disc moves left over blue stripes", strategy, steps=1).images.shape
    (6, 40, 40, 3)
    """

    def __init__(self, adapter: MotionAdapter, *, layers: LayerChoice = None, keep: float | None = None) -> None:
        self.adapter, self.layers = adapter, adapter.kept(layers, keep)

    def start(self, run: Run) -> None:
        """Raise if the run is of another backbone."""
        self.adapter.check(run.backbone)

    def attached(self, run: Run) -> AbstractContextManager[None]:
        """The adapter, attached."""
        return self.adapter.attached(run.backbone, layers=self.layers)


@dataclass(frozen=True, eq=False)
class FittedMotion(TransferMethod):
    """A learnt motion, which transfers to any number of prompts without further training.

    Parameters
    ----------
    adapter : MotionAdapter
        Trained.
    keep : float, 0 to 1
        Fraction of the layers, from the first one on, that add at inference.
    layers : iterable of int, optional
        Those layers instead of a fraction.

    Raises
    ------
    InvalidInputError, UnknownLayerError
        For a fraction outside 0 to 1, or layers that the adapter does not have.
    """

    adapter: MotionAdapter
    keep: float = 1.0
    layers: Iterable[int] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "layers", None if self.layers is None else tuple(self.layers))
        self._kept()

    def _kept(self) -> tuple[int, ...]:
        return self.adapter.kept(self.layers, None if self.layers is not None else self.keep)

    def strategies(self, reference: Reference) -> tuple[Strategy, ...]:
        """One that attaches the adapter; the reference is not looked at."""
        return (AttachAdapter(self.adapter, layers=self._kept()),)

    def describe(self, backbone: Backbone, steps: int) -> str:
        """Text on what was learnt and where it is added."""
        kept = self._kept()
        return f"{self.adapter.kind} adapter in {len(kept)} of {len(backbone.layers)} layers"

    def passes(self, backbone: Backbone, steps: int) -> float:
        """Zero: an adapter adds little to a pass."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class TrainedMethod(TransferMethod):
    """A method that trains an adapter on the reference and then generates with it attached.

    Parameters
    ----------
    keep : float, 0 to 1, optional
        Of the layers, from the first one on, that keep the adapter at inference; all are trained. By default that of
        the method.
    training : Training, optional
        By default what was tuned for the backbone where something was, else the published settings.
    """

    keep: float | None = None
    training: Training | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.keep is not None:
            finite(self.keep, "keep", min_value=0, max_value=1)

    @abstractmethod
    def new_adapter(self, backbone: Backbone, size: Size | None = None) -> MotionAdapter:
        """An untrained adapter for a backbone, and for a size of clip where its parameters depend on it."""

    def adapter_for(
        self,
        backbone: Backbone,
        clip: Clip,
        *,
        prompt: str | None = None,
        conditioning: Mapping[str, Any] | None = None,
    ) -> MotionAdapter:
        """An untrained adapter for a clip of a size that the backbone takes; override it where it depends on more.

        Parameters
        ----------
        backbone : Backbone
        clip : Clip
        prompt, conditioning
            Text with which the clip is shown, if it is shown.
        """
        return self.new_adapter(backbone, Size(clip.height, clip.width, len(clip)))

    def train(
        self,
        adapter: MotionAdapter,
        backbone: Backbone,
        clip: Clip,
        *,
        tracks: MotionTracks | None = None,
        prompt: str | None = None,
        conditioning: Mapping[str, Any] | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
        on_step: OnTrainingStep | None = None,
    ) -> list[Losses]:
        """Train an adapter on a clip, in place; arguments and errors as of ``train_adapter``."""
        return train_adapter(
            adapter,
            backbone,
            clip,
            self.resolve_training(backbone),
            tracks=tracks,
            prompt=prompt,
            conditioning=conditioning,
            checkpoint=checkpoint,
            resume=resume,
            on_step=on_step,
        )

    def training_details(self, backbone: Backbone) -> dict[str, Any]:
        """Settings of the training as JSON values, for the adapter's file."""
        return {"training": asdict(self.resolve_training(backbone))}

    def total_steps(self, backbone: Backbone) -> int:
        """Steps of the optimiser in all."""
        return self.resolve_training(backbone).steps

    @abstractmethod
    def resolve_training(self, backbone: Backbone) -> Training:
        """The settings of the training on a backbone."""

    def resolve_keep(self, backbone: Backbone) -> float:
        """The fraction of the layers that keep the adapter on a backbone."""
        return 1.0 if self.keep is None else self.keep

    def inference_adapter(self, adapter: MotionAdapter) -> MotionAdapter:
        """The part of a trained adapter that is attached at inference."""
        return adapter

    @checked
    def fit(
        self,
        backbone: Backbone,
        clip: Clip,
        *,
        size: tuple[int, int, int] | None = None,
        tracks: MotionTracks | None = None,
        prompt: str | None = None,
        conditioning: Mapping[str, Any] | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
        on_step: OnTrainingStep | None = None,
        adapter: MotionAdapter | None = None,
    ) -> FittedMotion:
        """Train on a clip once; the result transfers its motion to any number of prompts.

        Parameters
        ----------
        backbone : Backbone
        clip : Clip
            Made to fit ``size`` where it has another one (:func:`generators.transfer.reference_clip.fit_reference`).
        size : (height, width, images), optional
            By default the backbone's.
        tracks, prompt, conditioning, checkpoint, resume, on_step
            As of :func:`generators.adapters.training.train.train_adapter`.
        adapter : MotionAdapter, optional
            Adapter to train, so that it can be inspected meanwhile; by default a new one of :meth:`new_adapter`.

        Returns
        -------
        FittedMotion
            A method for ``transfer_motion``; its ``adapter`` is what :func:`generators.save_adapter` keeps.

        Raises
        ------
        As :func:`generators.adapters.training.train.train_adapter`.

        Examples
        --------
        >>> from probe import load_backbone
        >>> from store import make_scene
        >>> from generators import transfer_motion
        >>> from generators.adapters.det import DeT
        >>> backbone, scene = load_backbone("mini"), make_scene(3, prompt="a red disc moves left over blue stripes")
        >>> fitted = DeT(width=4, training=Training(steps=1)).fit(backbone, scene)
        >>> prompt = "a green star moves left over white dots"
        >>> transfer_motion(backbone, scene, prompt, method=fitted, steps=1).images.shape
        (6, 40, 40, 3)
        """
        wanted = Size(*(backbone.default_size if size is None else size))
        source = digest_of_clip(clip)
        clip = fit_reference(clip, wanted)
        if adapter is None:
            adapter = self.adapter_for(backbone, clip, prompt=prompt, conditioning=conditioning)
        losses = self.train(
            adapter,
            backbone,
            clip,
            tracks=tracks,
            prompt=prompt,
            conditioning=conditioning,
            checkpoint=checkpoint,
            resume=resume,
            on_step=on_step,
        )
        keep = self.resolve_keep(backbone)
        adapter.details = {
            "method": type(self).__name__,
            "keep": keep,
            **self.training_details(backbone),
            "size": list(wanted),
            "reference": source,
            "prompt": clip.prompt if prompt is None else prompt,
            "losses": [round(each.total, 6) for each in losses],
            "versions": library_versions(),
        }
        return FittedMotion(self.inference_adapter(adapter), keep)

    def strategies(self, reference: Reference) -> tuple[Strategy, ...]:
        """Train on the reference, then one that attaches what was learnt."""
        backbone, clip = reference.backbone, reference.clip
        size = Size(clip.height, clip.width, len(clip))
        fitted = self.fit(backbone, clip, size=size, conditioning=reference.conditioning)
        return fitted.strategies(reference)

    def describe(self, backbone: Backbone, steps: int) -> str:
        """Text on what is trained, how often, and where it is kept."""
        training = self.resolve_training(backbone)
        keep = self.resolve_keep(backbone)
        return (
            f"{type(self).__name__} trained for {training.steps} steps at rate {training.learning_rate:g} "
            f"({training.preset}), kept in the first {keep:.0%} of the layers"
        )

    def passes(self, backbone: Backbone, steps: int) -> float:
        """Three for each training step: one forward, and a backward one that counts as two."""
        return 3.0 * self.resolve_training(backbone).steps
