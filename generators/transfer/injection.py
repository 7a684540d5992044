"""Keys and values of the reference in place of the sample's: DiTFlow's injection, also used alone as a baseline."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from analyses.selection.defaults import chosen_layers
from analyses.selection.layer_selection import LayerSelection
from generators.sampling.step import Run, Step
from generators.sampling.strategy import Strategy
from generators.transfer.method import TransferMethod, guided_steps
from generators.transfer.reference_clip import Reference
from probe.attention.edit import Attend, Attention, Editor
from probe.backbones.backbone import Backbone
from store.arguments import check_fields, checked
from store.checks import number
from store.errors import InvalidInputError
from store.selection import resolve_number


@dataclass(frozen=True)
class Injection(TransferMethod):
    """Keys and values of the reference in the first layer, without optimisation (DiTFlow's baseline).

    At each of the first steps the reference is noised to the step's timestep, with the initial noise of the run, and
    the video tokens of the sample attend to its keys and values in both branches of guidance. The reference is read
    with the text of the new clip, but for image-to-video with its own image 0.

    Parameters
    ----------
    layer : int or LayerSelection
        Negative layers count from the end; of a selection, the best layer is used.
    fraction : float
        Fraction of the steps at which to inject, starting with the noisiest.

    Raises
    ------
    InvalidInputError
        For a layer that is not an int, or a fraction that is not above 0 and at most 1.

    Notes
    -----
    Pondaven et al., CVPR 2025; keys and values of the text are unchanged.

    Examples
    --------
    >>> Injection()
    Injection(layer=0, fraction=0.2)
    """

    layer: int | LayerSelection = 0
    fraction: float = 0.2

    def __post_init__(self) -> None:
        check_fields(self)
        check_fraction(self.fraction)

    def strategies(self, reference: Reference) -> tuple[Strategy, ...]:
        """Return the strategy that injects.

        Raises
        ------
        UnknownLayerError
        """
        return (InjectReference(reference, self._layer(reference.backbone), self.fraction),)

    def describe(self, backbone: Backbone, steps: int) -> str:
        """Describe the layer and the steps of the injection."""
        return f"Injection in layer {self._layer(backbone)} at {guided_steps(self.fraction, steps)} of {steps} steps"

    def passes(self, backbone: Backbone, steps: int) -> float:
        """Return one pass up to the layer for each guided step."""
        return guided_steps(self.fraction, steps) * (self._layer(backbone) + 1) / len(backbone.layers)

    def _layer(self, backbone: Backbone) -> int:
        layer = chosen_layers(self.layer, backbone)[0] if isinstance(self.layer, LayerSelection) else self.layer
        return resolve_number("layer", layer, len(backbone.layers))


def check_fraction(fraction: float) -> None:
    """Raise if a fraction of the steps is not above 0 and at most 1."""
    if not 0 < number(fraction, "fraction") <= 1:
        raise InvalidInputError(f"fraction must be above 0 and at most 1; got {fraction}.")


class InjectReference(Strategy):
    """The strategy of :class:`Injection`."""

    def __init__(self, reference: Reference, layer: int, fraction: float) -> None:
        self._latents, self._layer, self._fraction = reference.latents, layer, fraction
        self._condition = reference.condition  # computed now, since it calls the pipeline, which must not be running
        self._noise: Tensor | None = None

    def start(self, run: Run) -> None:
        """Forget the noise of an earlier run."""
        self._noise = None

    def before(self, step: Step) -> None:
        """Read the noised reference and attend to it."""
        if self._noise is None:
            self._noise = step.latents
        if step.number >= guided_steps(self._fraction, step.run.steps):
            return
        noised = step.schedule.noised(self._latents.to(self._noise), self._noise, step.number)
        call = step.read([self._layer], latents=noised, condition=self._condition).attention[self._layer]
        step.edit_attention(self._layer, inject_video(call.key, call.value))


@checked
def inject_video(key: Tensor, value: Tensor) -> Editor:
    """Return an editor that replaces keys and values of the video tokens; those of the text are kept.

    Parameters
    ----------
    key, value : (1, head, token, channel)
        Key and value of another pass of the same branch and size; its text tokens are not used.

    Examples
    --------
    >>> from store.layout import TokenLayout
    >>> layout = TokenLayout(3, 1, 1, 16, 16, 9)
    >>> mine, other = torch.zeros(2, 1, 5, 4), torch.ones(1, 1, 4, 4)  # two tokens of text, one in the other pass
    >>> attention = Attention(0, mine, mine, mine, None, 0.5, layout, slice(2, 5))
    >>> inject_video(other, other)(attention, lambda seen: seen.key)[0, 0, :, 0]
    tensor([0., 0., 1., 1., 1.])
    """

    def editor(attention: Attention, attend: Attend) -> Tensor:
        def replaced(own: Tensor, theirs: Tensor) -> Tensor:
            video = attention.video
            first = theirs.shape[2] - (video.stop - video.start) if video.start > 0 else 0
            part = theirs[:, :, first : first + video.stop - video.start].expand(len(own), -1, -1, -1)
            return torch.cat([own[:, :, : video.start], part.to(own), own[:, :, video.stop :]], dim=2)

        return attend(
            dataclasses.replace(attention, key=replaced(attention.key, key), value=replaced(attention.value, value))
        )

    return editor
