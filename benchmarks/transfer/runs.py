"""Clips by methods of motion transfer, made and measured by several processes, each once: a file keeps the results."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr

from benchmarks.results import Results, bundled, weights_digest
from benchmarks.transfer.clips import METRICS, Case
from generators.sampling.sample import sample
from generators.transfer.embedding import InjectMotion
from generators.transfer.method import TransferMethod
from generators.transfer.motion_transfer import MotionTransfer, transfer_motion
from probe.mini.family import GUIDANCE_SCALE
from store import Clip
from store.scenes.prompt import PromptWarning

STEPS = 25
NOTED = (*METRICS, "seconds")


@dataclass(frozen=True)
class Run:
    """One clip to be made and measured.

    Parameters
    ----------
    backbone : str
    case : Case
    method : TransferMethod
    injected : bool
        Optimise an embedding for the case's other prompt and inject it for the new one.
    """

    backbone: str
    case: Case
    method: TransferMethod
    injected: bool = False

    @property
    def key(self) -> str:
        """Key in the file of results."""
        parts = (
            self.backbone,
            weights_digest(self.backbone),
            self.case,
            self.method,
            self.injected,
            STEPS,
            GUIDANCE_SCALE,
        )
        return "; ".join(map(str, parts))

    def clip(self) -> tuple[Clip, float]:
        """The clip, and the processor seconds that it took; of an injected embedding without its optimisation."""
        backbone, case = bundled(self.backbone), self.case
        given: dict[str, Any] = {"seed": case.seed, "steps": STEPS, "guidance_scale": GUIDANCE_SCALE}
        reference = case.reference
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PromptWarning)
            if self.injected:
                made = MotionTransfer(backbone, reference, case.other, method=self.method, **given).optimise()
                began = time.process_time()
                clip = sample(backbone, case.new, InjectMotion(made), **given)
            else:
                began = time.process_time()
                clip = transfer_motion(backbone, reference, case.new, method=self.method, **given)
        return clip, time.process_time() - began

    def measure(self) -> dict[str, float]:
        """The metrics of the clip and the seconds it took."""
        clip, seconds = self.clip()
        return {**self.case.measure(clip), "seconds": seconds}


def measured(results: Results, rows: Mapping[str, Sequence[Run]]) -> xr.DataArray:
    """(row, clip, metric): each row's runs, of the same cases in the same order."""
    results.make(run for runs in rows.values() for run in runs)
    values = [[[results[run][name] for name in NOTED] for run in runs] for runs in rows.values()]
    seeds = [run.case.seed for run in next(iter(rows.values()))]
    coords = {"row": list(rows), "clip": seeds, "metric": list(NOTED)}
    return xr.DataArray(values, coords, ("row", "clip", "metric"))
