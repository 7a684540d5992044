"""Clips by methods of motion transfer, made and measured by several processes, each once: a file keeps the results."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from benchmarks.transfer.clips import METRICS, Case
from generators.sampling.sample import sample
from generators.transfer.embedding import InjectMotion
from generators.transfer.method import TransferMethod
from generators.transfer.motion_transfer import MotionTransfer, transfer_motion
from probe import Backbone, load_backbone
from probe.mini.family import GUIDANCE_SCALE
from store import Clip
from store.files.digest import digest_of_value
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
        parts = (self.backbone, _weights(self.backbone), self.case, self.method, self.injected, STEPS, GUIDANCE_SCALE)
        return "; ".join(map(str, parts))

    def clip(self) -> tuple[Clip, float]:
        """The clip, and the processor seconds that it took; of an injected embedding without its optimisation."""
        backbone, case = _backbone(self.backbone), self.case
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


@lru_cache
def _backbone(name: str) -> Backbone:
    return load_backbone(name)


@lru_cache
def _weights(name: str) -> str:
    """Of the transformer, hashed."""
    return digest_of_value(dict(_backbone(name).pipeline.transformer.state_dict()))


def _alone() -> None:
    torch.set_num_threads(1)


class Results:
    """Measured runs, in a file of one JSON object a line.

    Parameters
    ----------
    path : Path
        Runs that it holds are not made again; delete it when the code has changed.
    workers : int
        Processes, of one thread each.
    """

    def __init__(self, path: Path, workers: int) -> None:
        self._path, self._workers = path, workers
        lines = path.read_text().splitlines() if path.exists() else []
        self._known = {key: found for line in lines for key, found in json.loads(line).items()}

    def measured(self, rows: Mapping[str, Sequence[Run]]) -> xr.DataArray:
        """(row, clip, metric): each row's runs, of the same cases in the same order."""
        self._make(run for runs in rows.values() for run in runs)
        values = [[[self._known[run.key][name] for name in NOTED] for run in runs] for runs in rows.values()]
        seeds = [run.case.seed for run in next(iter(rows.values()))]
        coords = {"row": list(rows), "clip": seeds, "metric": list(NOTED)}
        return xr.DataArray(values, coords, ("row", "clip", "metric"))

    def _make(self, runs: Iterable[Run]) -> None:
        missing = list({run.key: run for run in runs if run.key not in self._known}.values())
        if not missing:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(self._workers, initializer=_alone) as pool, self._path.open("a") as file:
            for run, found in zip(missing, pool.map(Run.measure, missing), strict=True):
                self._known[run.key] = found
                file.write(json.dumps({run.key: found}) + "\n")
                file.flush()
