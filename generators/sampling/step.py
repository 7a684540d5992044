"""The current step as a strategy sees it, with what it can read, try and change."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from generators.errors import LESS_GUIDANCE, GuidanceDivergedError
from generators.sampling.reading import Reading, altered, read_layers
from probe.attention.edit import AttentionEdit, Editor
from probe.attention.positions import Positions, check_positions
from probe.backbones.backbone import Backbone, CallLabel
from probe.backbones.schedule import Schedule
from store.errors import InvalidInputError
from store.layout import TokenLayout
from store.selection import resolve_number


@dataclass(frozen=True, eq=False)
class Run:
    """Facts of a run that are known before the model runs.

    Parameters
    ----------
    backbone : Backbone
    layout : TokenLayout
        Layout of the clip; its ``text_tokens`` is the largest possible number.
    steps : int
        Denoising steps.
    guided : bool
        Whether classifier-free guidance is on, which gives two branches.
    """

    backbone: Backbone
    layout: TokenLayout
    steps: int
    guided: bool


class Step:
    """The current denoising step, as a strategy sees it.

    Attributes
    ----------
    run : Run
    number : int
        0 = most noise.
    timestep : float
        The scheduler's value.
    layout : TokenLayout
        Layout of the conditional branch, with the actual number of text tokens.
    """

    def __init__(
        self,
        run: Run,
        number: int,
        timestep: float,
        denoiser: nn.Module,
        call: Mapping[str, Any],
        apart: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.run, self.number, self.timestep = run, number, timestep
        # our probes announce steps on a copy, which the caller's probes do not see
        self._backbone = copy.copy(run.backbone)
        self._denoiser, self._call, self._apart = denoiser, call, apart
        self.layout = self._backbone.layouts_of_call(call)[0]
        self._shown = self._backbone.latents_of_call(denoiser, call).clone()  # some pipelines update them in place
        self._latents: Tensor | None = None
        self._positions: Positions | None = None
        self._editors: dict[int, list[Editor]] = {}

    def __repr__(self) -> str:
        return f"Step({self.number} of {self.run.steps}, timestep {self.timestep:g}, {self.layout.frames} frames)"

    # What a strategy may change ----------------------------------------------------------------------------------

    @property
    def latents(self) -> Tensor:
        """Latents with which the step begins, (1, ...) float32 in the pipeline's layout; set them to edit them.

        Raises
        ------
        InvalidInputError
            On setting another shape.
        GuidanceDivergedError
            On setting values that are not finite; the error holds the previous latents.
        """
        return self._shown.float() if self._latents is None else self._latents

    @latents.setter
    def latents(self, edited: Tensor) -> None:
        if edited.shape != self._shown.shape:
            raise InvalidInputError(
                f"edited latents must keep the shape {tuple(self._shown.shape)}; got {tuple(edited.shape)}."
            )
        self.run.backbone.check_latents_edited()
        self.check_finite(edited, "edited latents are")
        self._latents = edited.detach().to(self._shown.device, torch.float32)

    @property
    def positions(self) -> Positions:
        """Position tables that all branches of this step use; set them to replace them.

        Raises
        ------
        InvalidInputError
            On setting tables of another kind or size.
        UnsupportedBackboneError
            When the model's positions are not known.
        """
        return self._own_positions() if self._positions is None else self._positions

    @positions.setter
    def positions(self, positions: Positions) -> None:
        check_positions(positions, self._own_positions(), self.run.backbone.name)
        for name, table in positions.tensors().items():
            self.check_finite(table, f"positions {name!r} are")
        self._positions = type(positions)(**{name: table.detach() for name, table in positions.tensors().items()})

    def edit_attention(self, layer: int, editor: Editor) -> None:
        """Add an editor to a layer, for all branches of this step, after those already added.

        Raises
        ------
        UnknownLayerError
        """
        self._editors.setdefault(self._layer(layer), []).append(editor)

    # Queries of a strategy --------------------------------------------------------------------------------------

    @property
    def schedule(self) -> Schedule:
        """Noise levels of the run: ``step.schedule.noised(clean, noise, step.number)`` is a reference at this step."""
        return self.run.backbone.schedule_of(self.run.backbone.pipeline.scheduler)

    def read(
        self,
        layers: list[int],
        *,
        latents: Tensor | None = None,
        condition: Tensor | None = None,
        positions: Positions | None = None,
        features: bool = False,
        blocks: bool = False,
    ) -> Reading:
        """Queries, keys and features of layers, from running the conditional branch up to the last of them.

        Later layers are not evaluated. If gradients are enabled, they flow to ``latents`` and ``positions``; gradients
        of the model's weights are off during a guided run.

        Parameters
        ----------
        layers : list of int
        latents : (1, ...), optional
            By default this step's.
        condition : (1, ...), optional
            Channels of another clip after the latents (image-to-video); by default those of this run.
        positions : Positions, optional
            By default this step's.
        features : bool
            Whether captures also hold the attention output.
        blocks : bool
            Whether to read the output of the layer's block as well, which is then evaluated to its end.

        Raises
        ------
        UnknownLayerError, InvalidInputError
            For a layer that does not exist, no layers, or positions that do not fit.
        GuidanceDivergedError
            When a query, a key or a block's output is not finite.
        """
        wanted = sorted({self._layer(layer) for layer in layers})
        if not wanted:
            raise InvalidInputError("layers is empty: there would be nothing to read.")
        label = CallLabel(self.number, self.timestep, "cond", self.run.steps)
        with self._own_pass(latents, positions, {}, condition) as (call, edit):
            found = read_layers(
                self._backbone, self._denoiser, call, wanted, label, edit, features=features, blocks=blocks
            )
        seen = {f"queries of layer {layer} are": capture.query for layer, capture in found.captures.items()}
        seen |= {f"keys of layer {layer} are": capture.key for layer, capture in found.captures.items()}
        self.check_all_finite(seen | {f"the output of block {layer} is": out for layer, out in found.blocks.items()})
        return found

    def predict(
        self,
        *,
        latents: Tensor | None = None,
        positions: Positions | None = None,
        editors: Mapping[int, Editor] | None = None,
    ) -> Tensor:
        """Conditional prediction (1, ...) of a separate pass, such as one with perturbed attention.

        Parameters
        ----------
        latents, positions
            As for :meth:`read`.
        editors : mapping from layer to editor, optional
            Editors of this pass only, applied after those of :meth:`edit_attention`.
        """
        with self._own_pass(latents, positions, editors or {}) as (call, edit), edit:
            output = self._denoiser(**call)
        return self._backbone.prediction_of(output, self._call)

    def check_finite(self, values: Tensor, what: str) -> None:
        """End the run if any value is not finite.

        Raises
        ------
        GuidanceDivergedError
            With the latents of this step.
        """
        self.check_all_finite({what: values})

    def check_all_finite(self, values: Mapping[str, Tensor]) -> None:
        """Check several tensors by name, waiting for an accelerator once.

        Raises
        ------
        GuidanceDivergedError
            For the first tensor that is not finite.
        """
        finite = [torch.isfinite(each).all() for each in values.values()]
        found = torch.stack([each.to(finite[0].device) for each in finite]).tolist()
        if not all(found):
            where = f"at step {self.number} of {self.run.steps} (timestep {self.timestep:g})"
            raise self.diverged(f"{list(values)[found.index(False)]} not finite {where}.")

    def diverged(self, found: str) -> GuidanceDivergedError:
        """Return an error for a finding in this step, holding the latents with which the step began."""
        return GuidanceDivergedError(
            found,
            remedy=f"The latents with which that step began are kept as the error's .latents. {LESS_GUIDANCE}",
            step=self.number,
            latents=self.latents.detach(),
        )

    # Passes -------------------------------------------------------------------------------------------------------

    @property
    def edited(self) -> Tensor | None:
        """The edited latents, or None if they are unchanged."""
        if self._latents is None or torch.equal(self._latents, self._shown.float()):
            return None
        return self._latents

    @property
    def shown(self) -> Tensor:
        """Latents as the pipeline passed them to the model, in the model's data type."""
        return self._shown

    def altered(self, call: Mapping[str, Any]) -> AbstractContextManager[tuple[dict[str, Any], AttentionEdit]]:
        """The pipeline's call of any branch, with all changes of the strategies."""
        if self.edited is not None:
            call = self._backbone.call_with_latents(call, self.edited)
        return altered(self._backbone, self._denoiser, call, self.layout, self._positions, self._editors)

    @contextmanager
    def _own_pass(
        self,
        latents: Tensor | None,
        positions: Positions | None,
        editors: Mapping[int, Editor],
        condition: Tensor | None = None,
    ) -> Iterator[tuple[dict[str, Any], AttentionEdit]]:
        """Call of the conditional branch with the given inputs, hidden from the caller's probes."""
        given = self.latents if latents is None else latents
        if condition is not None:
            given = torch.cat([given, condition.to(given)], dim=self._backbone.geometry.channel_axis)
        call = self._backbone.call_with_latents(self._call, given)
        if positions is None:
            positions = self._positions
        else:
            check_positions(positions, self._own_positions(), self.run.backbone.name)
        chains = {layer: list(chain) for layer, chain in self._editors.items()}
        for layer, editor in editors.items():
            chains.setdefault(self._layer(layer), []).append(editor)
        with (
            self._apart(),
            altered(self._backbone, self._denoiser, call, self.layout, positions, chains) as ready,
        ):
            yield ready

    def _layer(self, layer: int) -> int:
        return resolve_number("layer", layer, len(self._backbone.layers))

    def _own_positions(self) -> Positions:
        return self._backbone.positions(self._denoiser, self._call, self.layout)
