"""Motion transfer by optimisation: the common part of DiTFlow and its baselines, without their losses."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from analyses.flow.reference_flow import FlowPreset, default_layer, shown_step
from analyses.selection.defaults import chosen_layers
from analyses.selection.layer_selection import LayerSelection
from generators.sampling.optimise import minimise
from generators.sampling.step import Run, Step
from generators.sampling.strategy import Strategy
from generators.transfer.injection import InjectReference, check_fraction
from generators.transfer.method import TransferMethod, guided_steps
from generators.transfer.reference_clip import Reference
from probe.attention.positions import Positions
from probe.backbones.backbone import Backbone
from probe.execution.autocast import outside_autocast
from probe.families.published import model_card
from probe.run.layers_of_clip import Reading
from store.arguments import check_fields, check_kind
from store.checks import integer
from store.errors import InvalidInputError
from store.selection import Selection
from store.wording import in_python

Optimised = Literal["latents", "positions"]
LossOf = Callable[[Reading], Tensor]

PUBLISHED_RATE = (0.002, 0.001)
"""Learning rates (first, last) of the DiTFlow release.

The bundled backbones have their own rates (``probe/families/published.json``), found with DiTFlow by
``benchmarks/transfer.py``, part "tune". On mini the object's path is 0.93 of the reference's motion away from it at the
published rate, 0.56 at that one, 0.42 at 0.05, where objects begin to break apart, and 0.65 at 0.1, where colours are
lost; 1.00 without transfer.
"""


@dataclass(frozen=True, kw_only=True)
class OptimisedMethod(TransferMethod):
    """A method that minimises a loss with Adam at the first steps of a run; subclasses define the loss.

    Parameters
    ----------
    optimise : "latents" or "positions"
        The latents with which a step starts, or its position tables, which both branches of guidance then use: an added
        table, or separate cosines and sines for queries and keys. Positions start from those of the previous step;
        after the last optimised step the model's own are used again.
    layers : iterable of int or LayerSelection, optional
        Layers over whose losses the mean is taken; by default those of the preset. Later layers are not evaluated
        during the optimisation. Negative layers count from the end. With the preset "exact" a selection also gives the
        step at which the reference is read.
    fraction : float
        Fraction of the steps that are optimised, starting with the noisiest.
    iterations : int
        Number of Adam updates at each of these steps, with a new optimiser each time.
    learning_rate : (first, last), optional
        Decreases linearly over the optimised steps. By default the rates tuned for the backbone, if there are any,
        otherwise the published ones.
    inject : bool
        Whether to attend to the reference's keys and values in layer 0
        (:class:`generators.transfer.injection.Injection`), also during the optimisation, as the released code does by
        default.
    preset : "exact" or "ditflow"
        "exact" uses the layer and the step known from layer selection, and the rate ends at ``last``. "ditflow" follows
        the release: its layers, the reference at timestep 0, and by default the published rates, which stop one step
        short of ``last`` (at 0.0011 for 10 steps).

    Raises
    ------
    InvalidInputError
        On construction, for an invalid value.
    """

    optimise: Optimised = "latents"
    layers: Iterable[int] | LayerSelection | None = None
    fraction: float = 0.2
    iterations: int = 5
    learning_rate: tuple[float, float] | None = None
    inject: bool = False
    preset: FlowPreset = "exact"

    def __post_init__(self) -> None:
        rate = self.learning_rate
        if rate is not None:
            check_kind(rate, Sequence[float], "learning_rate")
            if len(rate) != 2 or not all(math.isfinite(each) and each > 0 for each in rate):
                raise InvalidInputError(f"learning_rate must be two numbers above 0, (first, last); got {tuple(rate)}.")
            object.__setattr__(self, "learning_rate", tuple(rate))
        check_fields(self)
        check_fraction(self.fraction)
        integer(self.iterations, "iterations", min_value=1)
        if not isinstance(self.layers, LayerSelection):
            object.__setattr__(self, "layers", None if self.layers is None else tuple(self.layers))
        if self.layers == ():
            raise InvalidInputError("layers is empty: name at least one layer whose motion is compared.")

    def resolve_layers(self, backbone: Backbone) -> tuple[int, ...]:
        """Return the layers whose losses are used on a backbone, in ascending order.

        Raises
        ------
        InvalidInputError
            If none are given and none are known for this backbone.
        UnknownLayerError
        """
        if self.layers is not None:
            return _ascending(chosen_layers(self.layers, backbone), backbone)
        try:
            return _ascending((default_layer(backbone, self.preset),), backbone)
        except InvalidInputError as error:
            worded = error.worded(lambda name, value: in_python("layers" if name == "layer" else name, value))
            raise InvalidInputError(worded) from error

    def read(self, reference: Reference, layers: tuple[int, ...], *, blocks: bool = False) -> Reading:
        """Return features of the reference in the given layers, at the step of the selection or of the preset."""
        step = shown_step(self.layers, reference.backbone, self.preset, reference.steps)
        return reference.read(list(layers), step=step, blocks=blocks)

    def rates(self, backbone: Backbone, steps: int) -> tuple[float, ...]:
        """Return the learning rate of each optimised step of a run.

        Examples
        --------
        >>> from probe import load_backbone
        >>> from generators.transfer.ditflow import DiTFlow
        >>> DiTFlow(preset="ditflow").rates(load_backbone("mini"), 10)
        (0.002, 0.0015)
        """
        card = model_card(backbone) if self.preset == "exact" else None
        tuned = {} if card is None else card.learning_rates
        ends = tuned.get(self.optimise, PUBLISHED_RATE) if self.learning_rate is None else self.learning_rate
        count = guided_steps(self.fraction, steps)
        short = self.preset == "ditflow"
        return tuple(np.linspace(*ends, count + short)[:count].tolist())

    @abstractmethod
    def losses(self, reference: Reference, layers: tuple[int, ...]) -> dict[int, LossOf]:
        """Return the loss of each layer as a function of a reading of the sample, relative to the reference."""

    @property
    def reads_blocks(self) -> bool:
        """Tell whether the losses need the output of blocks."""
        return False

    def describe(self, backbone: Backbone, steps: int) -> str:
        """Describe the optimisation: its variables, layers and iterations.

        Raises
        ------
        InvalidInputError, UnknownLayerError
        """
        layers = self.resolve_layers(backbone)
        listed = f"layer{'s' * (len(layers) > 1)} {', '.join(map(str, layers))}"
        injected = ", with injection" if self.inject else ""
        return (
            f"{type(self).__name__} on {self.optimise} ({self.preset}) by {listed} at "
            f"{guided_steps(self.fraction, steps)} of {steps} steps, {self.iterations} iterations each{injected}"
        )

    def passes(self, backbone: Backbone, steps: int) -> float:
        """Return one pass of the reference, and forward and backward passes up to the last layer in each iteration."""
        total = len(backbone.layers)
        each = (3 * self.iterations * (self.resolve_layers(backbone)[-1] + 1) + self.inject) / total
        return 1 + guided_steps(self.fraction, steps) * each

    def layers_with_gradients(self, backbone: Backbone) -> int:
        """Return the number of layers up to the last one whose loss is taken.

        Raises
        ------
        InvalidInputError, UnknownLayerError
        """
        return self.resolve_layers(backbone)[-1] + 1

    def strategies(self, reference: Reference) -> tuple[Strategy, ...]:
        """Return the strategy that optimises, after one that injects if requested.

        Raises
        ------
        InvalidInputError, UnknownLayerError
            For layers that do not exist, or a reference without motion.
        """
        layers = self.resolve_layers(reference.backbone)
        optimisation = Optimisation(self, self.losses(reference, layers))
        return (InjectReference(reference, 0, self.fraction), optimisation) if self.inject else (optimisation,)


def _ascending(layers: tuple[int, ...], backbone: Backbone) -> tuple[int, ...]:
    return Selection("all", layers).resolve(len(backbone.layers), 1, 1).layers


@dataclass(eq=False)
class Optimisation(Strategy):
    """The strategy of an :class:`OptimisedMethod`, and its results.

    Attributes
    ----------
    method : OptimisedMethod
    losses_of : dict from layer to loss
    history : dict from step to the losses before each of its iterations
    positions : dict from step to the optimised tables; empty if latents are optimised
    timesteps : dict from optimised step to the scheduler's value
    """

    method: OptimisedMethod
    losses_of: dict[int, LossOf]
    history: dict[int, list[float]] = field(default_factory=dict)
    positions: dict[int, Positions] = field(default_factory=dict)
    timesteps: dict[int, float] = field(default_factory=dict)
    _losses: list[Tensor] = field(default_factory=list, repr=False)

    def start(self, run: Run) -> None:
        """Forget an earlier run."""
        for found in (self.history, self.positions, self.timesteps):
            found.clear()

    def before(self, step: Step) -> None:
        """Optimise the latents or the positions of this step."""
        rates = self.method.rates(step.run.backbone, step.run.steps)
        if step.number >= len(rates):
            return
        self.timesteps[step.number] = step.timestep
        try:
            self._optimise(step, rates[step.number])
        finally:
            losses, self._losses = self._losses, []
            if losses:  # fetched together, to wait for an accelerator once
                self.history[step.number] = torch.stack(losses).tolist()

    def _optimise(self, step: Step, rate: float) -> None:
        schedule = [rate] * self.method.iterations
        if self.method.optimise == "latents":
            found = minimise(
                step,
                {"latents": step.latents},
                lambda leaves: self.loss(step, latents=leaves["latents"]),
                learning_rates=schedule,
            )
            step.latents = found["latents"]
            return
        start = self.positions.get(step.number - 1, step.positions)
        kind = type(start)
        tables = minimise(
            step, start.tensors(), lambda leaves: self.loss(step, positions=kind(**leaves)), learning_rates=schedule
        )
        step.positions = self.positions[step.number] = kind(**tables)

    def loss(self, step: Step, *, latents: Tensor | None = None, positions: Positions | None = None) -> Tensor:
        """Mean of the layers' losses, recorded in the history."""
        reading = step.read(list(self.losses_of), latents=latents, positions=positions, blocks=self.method.reads_blocks)
        with outside_autocast():
            losses = [loss(reading) for loss in self.losses_of.values()]
            device = losses[0].device  # layers may be on several devices
            mean = torch.stack([each.to(device) for each in losses]).mean()
        self._losses.append(mean.detach())
        return mean
