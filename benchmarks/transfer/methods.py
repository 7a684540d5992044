"""The methods of motion transfer that are compared, and how each was tuned."""

from __future__ import annotations

from dataclasses import replace

from generators.transfer.ditflow import DiTFlow
from generators.transfer.injection import Injection
from generators.transfer.method import PlainBackbone, TransferMethod
from generators.transfer.moft import MOFT
from generators.transfer.motion_clone import MotionClone
from generators.transfer.optimised import OptimisedMethod
from generators.transfer.smm import SMM
from probe.families.published import model_cards

TUNED_ON = 2000
RATES = (0.002, 0.01, 0.02, 0.05, 0.1)
PLAIN, LATENTS, POSITIONS = "plain backbone", "DiTFlow, latents", "DiTFlow, positions"
GENTLE = next(card for card in model_cards() if card.name == "mini").learning_rates["latents"][0]
DEFAULT, RESTING = "DiTFlow, latents, default rate", "DiTFlow, latents, what rests too"


def rated(method: OptimisedMethod, rate: float) -> OptimisedMethod:
    """The method at a learning rate that halves over its steps, as the published one does."""
    return replace(method, learning_rate=(rate, rate / 2))


OPTIMISED: dict[str, OptimisedMethod] = {
    "SMM": SMM(),
    "MOFT": MOFT(),
    "MotionClone": MotionClone(),
    LATENTS: DiTFlow(),
    POSITIONS: DiTFlow(optimise="positions"),
}

RATE_OF = {
    "mini": {"SMM": 0.05, "MOFT": 0.05, "MotionClone": 0.02, LATENTS: 0.02, POSITIONS: 0.1},
    "mini@1": {"SMM": 0.02, "MOFT": 0.02, "MotionClone": 0.02, LATENTS: 0.05, POSITIONS: 0.02},
    "mini-rope": {"SMM": 0.1, "MOFT": 0.05, "MotionClone": 0.05, LATENTS: 0.02, POSITIONS: 0.02},
    "mini-rope@1": {"SMM": 0.02, "MOFT": 0.05, "MotionClone": 0.02, LATENTS: 0.02, POSITIONS: 0.02},
}
"""Of the highest motion fidelity of boxes in the part "tune" among those within 5 points of the plain prompt agreement;
twelve scenes for the first weights, six for the present ones."""
INJECTION = {
    "mini": Injection(),
    "mini@1": Injection(layer=3, fraction=0.5),
    "mini-rope": Injection(layer=3, fraction=0.5),
    "mini-rope@1": Injection(),
}
"""Chosen likewise; published are layer 0 and a fifth of the steps."""


def candidates() -> dict[str, TransferMethod]:
    """Every optimised method at every rate, and injection in every layer, to choose from."""
    found: dict[str, TransferMethod] = {PLAIN: PlainBackbone()}
    for label, method in OPTIMISED.items():
        found |= {f"{label}, {rate:g}": rated(method, rate) for rate in RATES}
    found["injection"] = Injection()
    return found | {f"injection in layer {n}, half of the steps": Injection(layer=n, fraction=0.5) for n in range(6)}


def tuned_methods(backbone: str) -> dict[str, TransferMethod]:
    """The plain backbone, and every method as it was tuned on that backbone."""
    rates = RATE_OF[backbone]
    found: dict[str, TransferMethod] = {PLAIN: PlainBackbone(), "injection": INJECTION[backbone]}
    for label, method in OPTIMISED.items():
        found[label] = rated(method, rates[label])
        if label == LATENTS:
            if rates[label] != GENTLE:
                found[DEFAULT] = rated(method, GENTLE)
            found[RESTING] = rated(replace(method, static=True), rates[label])
    return found
