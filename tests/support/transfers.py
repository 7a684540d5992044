"""References and transfers on the tiny families."""

from __future__ import annotations

import numpy as np
from guided import backbone_of
from tiny_families import FAMILIES, Family

from generators.transfer.method import TransferMethod
from generators.transfer.motion_transfer import MotionTransfer
from store import Clip


def reference_of(family: Family) -> Clip:
    size = family.size
    shape = (size["images"], size["height"], size["width"], 3)
    return Clip(np.random.default_rng(3).integers(0, 255, shape, np.uint8), fps=8)


def transfer_of(name: str, method: TransferMethod, *, guided: bool = True, steps: int = 2) -> MotionTransfer:
    family = FAMILIES[name]
    options = family.options(guided=guided, steps=steps)
    return MotionTransfer(backbone_of(name), reference_of(family), family.prompt, method=method, **options)
