"""Cost of the fits of an experiment, from a few steps of every arm: read the sum before you start it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from benchmarks.adapters.arms import Arm, Trained, is_trained, shortened
from benchmarks.adapters.measures import NEW, measured
from benchmarks.adapters.runs import Fit
from benchmarks.results import bundled
from benchmarks.transfer.clips import cases
from generators.adapters.decoupled.follow_your_motion import FollowYourMotion
from generators.adapters.training.settings import Losses
from generators.transfer.method import PlainBackbone, TransferMethod
from store.errors import DitprobeError

TUNED_ON = 2000
"""Seed of the first tuning scene."""
_TIMED = 3
"""Steps of a stage that are timed, after a first one."""


class Costs:
    """Processor seconds of fits, measured on one tuning scene.

    Parameters
    ----------
    backbone : str
    """

    def __init__(self, backbone: str) -> None:
        self._backbone, self._case = backbone, cases(TUNED_ON, 1, "without a direction")[0]
        self._of_arms: dict[str, float] = {}
        plain = Fit(backbone, self._case, PlainBackbone(), steps=4)
        clip = plain.clip(NEW)
        began = time.process_time()
        plain.clip(NEW)
        self._step = (time.process_time() - began) / plain.steps
        measured(self._case, clip, NEW)  # the first time it makes its tables
        began = time.process_time()
        measured(self._case, clip, NEW)
        self._measures = time.process_time() - began

    def seconds(self, fit: Fit) -> float:
        """Processor seconds of a fit; 0 where the arm is refused."""
        clip = self._step * fit.steps + self._measures
        if not is_trained(fit.arm):
            assert isinstance(fit.arm, TransferMethod)
            passes = fit.arm.passes(bundled(self._backbone), fit.steps)
            return 2 * (clip + self._step * passes / 2)
        of_arm = str(fit.arm)
        if of_arm not in self._of_arms:
            self._of_arms[of_arm] = self._training(fit.arm)
        trained = self._of_arms[of_arm]
        return trained and trained + clip * _clips(fit.arm)

    def _training(self, arm: Arm) -> float:
        """Seconds of all steps, from a few of each stage."""
        ends: list[float] = []

        def on_step(losses: Losses) -> None:
            ends.append(time.process_time())

        try:
            Fit(self._backbone, self._case, shortened(arm, 1 + _TIMED)).train(on_step)
        except DitprobeError:
            return 0.0
        took = np.diff(ends)
        stages = [took[start : start + _TIMED].min() for start in range(0, len(took), 1 + _TIMED)]
        return float(np.dot(stages, _steps(arm, self._backbone)))


def _clips(arm: Arm) -> int:
    return 1 + (2 * len(arm.kept) + len(arm.once) if isinstance(arm, Trained) else 2)


def _steps(arm: Arm, backbone: str) -> list[int]:
    """Steps of each stage."""
    if isinstance(arm, Trained):
        return [arm.training.steps]
    assert isinstance(arm, FollowYourMotion)
    return [steps for steps in arm.steps_of_stages(bundled(backbone)) if steps]


def estimate(fits: Sequence[Fit], costs: Costs) -> str:
    """A line on how long fits take."""
    seconds = Counter[str]()
    for fit in fits:
        seconds[str(fit.arm)] += costs.seconds(fit)
    hours = sum(seconds.values()) / 3600
    free = [arm for arm, took in seconds.items() if not took]
    refused = f"; {len(free)} arms are refused on the tuning scene and count nothing" if free else ""
    return f"{len(fits)} fits to make, {hours:.1f} hours of one core{refused}"
