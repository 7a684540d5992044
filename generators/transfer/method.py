"""What methods of motion transfer have in common, and the plain backbone to compare them with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from generators.sampling.strategy import Strategy
from generators.transfer.reference_clip import Reference
from probe.backbones.backbone import Backbone


@dataclass(frozen=True)
class TransferMethod(ABC):
    """A method that transfers the motion of a reference; an argument of ``transfer_motion``."""

    @abstractmethod
    def strategies(self, reference: Reference) -> tuple[Strategy, ...]:
        """What guides a run, made anew for each: everything that the reference tells is found out here."""

    @abstractmethod
    def describe(self, backbone: Backbone, steps: int) -> str:
        """What it does in a run of so many steps, in words.

        Raises
        ------
        InvalidInputError, UnknownLayerError
            For layers that are not known or do not exist.
        """

    @abstractmethod
    def passes(self, backbone: Backbone, steps: int) -> float:
        """How many passes of one branch it adds to a run, for an estimate of the time.

        A pass up to a layer counts as its fraction of the layers, and a backward pass as two forward ones.
        """


@dataclass(frozen=True)
class PlainBackbone(TransferMethod):
    """No method: what the backbone makes of the prompt alone, to compare the others with.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from store.scenes.scene import make_scene
    >>> PlainBackbone().strategies(Reference(load_backbone("mini"), make_scene(3), steps=50))
    ()
    """

    def strategies(self, reference: Reference) -> tuple[Strategy, ...]:
        """None."""
        return ()

    def describe(self, backbone: Backbone, steps: int) -> str:
        """That it does nothing."""
        return "no transfer"

    def passes(self, backbone: Backbone, steps: int) -> float:
        """None."""
        return 0.0


def guided_steps(fraction: float, steps: int) -> int:
    """Number of guided steps, counted from the noisiest: a fraction of the run, rounded, at least one.

    Examples
    --------
    >>> guided_steps(0.2, 50), guided_steps(0.2, 2)
    (10, 1)
    """
    return max(1, round(fraction * steps))
