"""Interface of transfer methods, and the plain backbone as their baseline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from generators.sampling.strategy import Strategy
from generators.transfer.reference_clip import Reference
from probe.backbones.backbone import Backbone


@dataclass(frozen=True)
class TransferMethod(ABC):
    """A method of motion transfer; the ``method`` of ``transfer_motion``."""

    @abstractmethod
    def strategies(self, reference: Reference) -> tuple[Strategy, ...]:
        """Return the strategies for one run; all features of the reference are computed here."""

    @abstractmethod
    def describe(self, backbone: Backbone, steps: int) -> str:
        """Describe the method in a run of a given number of steps.

        Raises
        ------
        InvalidInputError, UnknownLayerError
            For layers that are not known or do not exist.
        """

    @abstractmethod
    def passes(self, backbone: Backbone, steps: int) -> float:
        """Return the number of passes of one branch that the method adds to a run, for time estimates.

        A pass up to a layer counts as its fraction of the layers, and a backward pass as two forward ones.
        """

    def layers_with_gradients(self, backbone: Backbone) -> int:
        """Number of layers that gradients are taken through, for estimates of memory: 0 if there are none."""
        return 0


@dataclass(frozen=True)
class PlainBackbone(TransferMethod):
    """No method: the backbone's own clip of the prompt, as a baseline.

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
        """Describe that nothing is transferred."""
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
