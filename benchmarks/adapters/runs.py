"""Adapters fitted to references, each once: a file keeps what was measured, by everything that decides it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from benchmarks.adapters.arms import ALL, Arm, Trained
from benchmarks.adapters.measures import NEW, OTHER, SOURCE, measured, sentence, source_error
from benchmarks.results import bundled, weights_digest
from benchmarks.transfer.clips import Case
from benchmarks.transfer.runs import STEPS as SAMPLING_STEPS
from generators.adapters.adapter import MotionAdapter
from generators.adapters.fitted import AttachAdapter, TrainedMethod
from generators.adapters.motion_tracks import tracks_of
from generators.adapters.training.settings import Losses, Training
from generators.adapters.training.train import Objective, train_adapter
from generators.sampling.sample import sample
from generators.transfer.motion_transfer import transfer_motion
from probe.mini.family import GUIDANCE_SCALE
from store import Clip
from store.errors import DitprobeError
from store.scenes.prompt import PromptWarning

_HELD_OUT = range(1_000_000, 1_000_010)
"""Training steps whose noise no training sees, for the loss before and after."""


@dataclass(frozen=True)
class Fit:
    """One arm on one reference: what was learnt, and the clips that were made with it.

    Parameters
    ----------
    backbone : str
    case : Case
    arm : Arm
    steps : int
        Denoising steps of a clip.
    """

    backbone: str
    case: Case
    arm: Arm
    steps: int = SAMPLING_STEPS

    @property
    def key(self) -> str:
        """Key in the file of results."""
        made = (self.backbone, weights_digest(self.backbone), self.case, self.arm, self.steps, GUIDANCE_SCALE)
        parts = (*made, "leak as a tint")
        return "; ".join(map(str, parts))

    def measure(self) -> dict[str, Any]:
        """``clips``: metrics by prompt and kept layers; ``seconds`` of a clip and ``training`` seconds; of trained
        arms also the loss ``before`` and ``after`` on noise that was not trained on, and ``source``, the motion error
        of a clip of the caption that was trained with. ``refused``: why it cannot be made, instead of all that."""
        try:
            return self._measured()
        except DitprobeError as error:
            return {"refused": f"{type(error).__name__}: {error}"}

    def _measured(self) -> dict[str, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PromptWarning)
            return self._trained(self.arm) if isinstance(self.arm, Trained | TrainedMethod) else self._untrained()

    def _untrained(self) -> dict[str, Any]:
        found: dict[str, Any] = {"clips": {}}
        for which in (NEW, OTHER):
            began = time.process_time()
            clip = self.clip(which)
            found["seconds"] = time.process_time() - began
            found["clips"][f"{which} {_named(ALL)}"] = measured(self.case, clip, which)
        return found

    def _trained(self, arm: Trained | TrainedMethod) -> dict[str, Any]:
        backbone, case = bundled(self.backbone), self.case
        adapter, training, began = self.train(lambda losses: None)
        seconds = time.process_time() - began
        after = _held_out_loss(Objective(backbone, case.reference, training, prompt=self.caption), adapter)
        clips = {}
        kept, once = (arm.kept, arm.once) if isinstance(arm, Trained) else ((ALL,), ())
        for layers in (*kept, *once):
            for which in (NEW, OTHER) if layers in kept else (NEW,):
                clips[f"{which} {_named(layers)}"] = measured(case, self.clip(which, adapter, layers), which)
        began = time.process_time()
        source = source_error(case, self.clip(SOURCE, adapter, ALL))
        generating = time.process_time() - began
        return {
            "clips": clips,
            "training": seconds,
            "seconds": generating,
            "before": _loss_before(self.backbone, case, self.caption),
            "after": after,
            "source": source,
        }

    @property
    def caption(self) -> str:
        """Prompt that the backbone reads while it learns."""
        of_names = isinstance(self.arm, Trained) and self.arm.names_motion
        return str(self.case.reference.prompt) if of_names else sentence(self.case, SOURCE)

    def train(self, on_step: Callable[[Losses], object]) -> tuple[MotionAdapter, Training, float]:
        """Train the arm: what is attached at inference, its training, and the processor's time when it began."""
        arm, backbone, case = self.arm, bundled(self.backbone), self.case
        given: dict[str, Any] = {"prompt": self.caption, "on_step": on_step}
        if isinstance(arm, Trained):
            adapter, tracks = arm.new(backbone), self._tracks(arm)
            began = time.process_time()
            train_adapter(adapter, backbone, case.reference, arm.training, tracks=tracks, **given)
            return adapter, arm.training, began
        assert isinstance(arm, TrainedMethod)
        adapter = arm.adapter_for(backbone, case.reference, prompt=self.caption)
        began = time.process_time()
        arm.train(adapter, backbone, case.reference, **given)
        return arm.inference_adapter(adapter), arm.resolve_training(backbone), began

    def clip(self, which: str, adapter: MotionAdapter | None = None, layers: tuple[int, ...] = ALL) -> Clip:
        """A clip of one of the prompts; every one of a case begins with the same noise."""
        backbone, case, prompt = bundled(self.backbone), self.case, sentence(self.case, which)
        given: dict[str, Any] = {"seed": case.seed, "steps": self.steps, "guidance_scale": GUIDANCE_SCALE}
        if adapter is not None:
            return sample(backbone, prompt, AttachAdapter(adapter, layers=layers), **given)
        assert not isinstance(self.arm, Trained)
        return transfer_motion(backbone, case.reference, prompt, method=self.arm, on_step=False, **given)

    def _tracks(self, arm: Trained) -> Any:
        if not arm.training.tracking_weight:
            return None
        source = "clip" if arm.exact_tracks else "backbone"
        return tracks_of(self.case.reference, bundled(self.backbone), source=source, points=arm.training.points)


def _named(layers: tuple[int, ...]) -> str:
    return f"first {len(layers)}"


@lru_cache(maxsize=4)
def _loss_before(name: str, case: Case, caption: str) -> float:
    """Loss of the frozen backbone, the same for every arm."""
    backbone = bundled(name)
    return _held_out_loss(Objective(backbone, case.reference, Training(tracking_weight=0.0), prompt=caption), None)


def _held_out_loss(objective: Objective, adapter: MotionAdapter | None) -> float:
    with torch.no_grad(), nullcontext() if adapter is None else adapter.attached(objective.backbone):
        return float(np.mean([float(objective.losses(step)[0]) for step in _HELD_OUT]))
