"""Plan of a training of an adapter: parameters, memory and passes, without running the model at full size."""

from __future__ import annotations

from dataclasses import dataclass

from generators.adapters.fitted import TrainedMethod
from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from store.plan import format_bytes

_FLOAT = 4
_STATE = 5 * _FLOAT
"""Bytes a parameter: itself, its gradient, two moments of Adam, and the last good value."""
_KEPT = 17
"""Numbers that autograd keeps of a token and channel in a layer whose weights are frozen: on mini 12.4 beside a kernel
of width 8, 14.1 of width 128 and 14.6 beside a LoRA of rank 8, counted by the saved tensors of diffusers' blocks; in a
CogVideoX 12.6 beside a kernel and 16 to 17 beside a LoRA, counted by all tensors that live at one time."""
_AROUND = 3
"""The same of what is made before the first and behind the last layer, once."""
_WORKING = 6
"""The same of what the backward pass makes in a layer: with gradient checkpointing it comes on top of what is kept."""


@dataclass(frozen=True)
class TrainingPlan:
    """Parameters, passes and bytes of a training.

    Parameters
    ----------
    parameters : int
        Number of parameters of the adapter.
    steps : int
    passes : float
        Passes of one branch at the size of the clip; a backward pass counts as two.
    weights : int
        Bytes of the transformers.
    adapter : int
        Bytes of parameters, gradients, optimiser and the last good values.
    activations : int
        Bytes that are kept for the backward pass, about.
    checkpointed : int
        The same with gradient checkpointing.
    checkpointing : bool
        Whether it is on.
    """

    parameters: int
    steps: int
    passes: float
    weights: int
    adapter: int
    activations: int
    checkpointed: int
    checkpointing: bool

    @classmethod
    def of_sizes(
        cls,
        *,
        parameters: int,
        weights: int,
        layers: int,
        channels: int,
        tokens: int,
        steps: int,
        passes: float,
        item: int = 2,
        checkpointing: bool = False,
    ) -> TrainingPlan:
        """Return the plan of a model of which the sizes alone are known.

        Parameters
        ----------
        parameters, weights, steps, passes, checkpointing
            As of the plan.
        layers, channels : int
            Layers of the transformer, and channels of a token in it.
        tokens : int
            Number of tokens of the clip and the text in a layer.
        item : int
            Bytes of a number.

        Examples
        --------
        >>> plan = TrainingPlan.of_sizes(
        ...     parameters=1000, weights=2000, layers=4, channels=8, tokens=16, steps=5, passes=15.0
        ... )
        >>> plan.adapter, plan.activations, plan.checkpointed
        (20000, 18176, 6912)
        """
        kept = tokens * channels * item
        return cls(
            parameters=parameters,
            steps=steps,
            passes=passes,
            weights=weights,
            adapter=parameters * _STATE,
            activations=(layers * _KEPT + _AROUND) * kept,
            checkpointed=(layers + _KEPT + _WORKING) * kept,
            checkpointing=checkpointing,
        )

    @property
    def memory(self) -> int:
        """Bytes in all, without encoders, which are set aside."""
        return self.weights + self.adapter + (self.checkpointed if self.checkpointing else self.activations)

    def lines(self) -> list[str]:
        """The plan in words."""
        kept = "with gradient checkpointing" if self.checkpointing else "without gradient checkpointing"
        other = self.checkpointed if not self.checkpointing else self.activations
        another = "with" if not self.checkpointing else "without"
        return [
            f"{self.parameters:,} parameters, {self.steps} steps, {self.passes:g} passes of one branch",
            f"about {format_bytes(self.memory)} {kept} ({another}: {format_bytes(self.memory_with(other))}): weights "
            f"{format_bytes(self.weights)}, adapter with optimiser {format_bytes(self.adapter)}",
        ]

    def memory_with(self, activations: int) -> int:
        """Bytes in all with other activations."""
        return self.weights + self.adapter + activations


def plan_training(method: TrainedMethod, backbone: Backbone, size: Size | None = None) -> TrainingPlan:
    """Return what a training needs; also of a backbone whose weights are not loaded.

    The memory is an estimate from the sizes of the model: about 17 numbers of a token and channel are kept in each
    layer; with gradient checkpointing one, and those of one layer with what its backward pass makes. Measured figures
    are in docs/benchmarks/adapters.md.

    Parameters
    ----------
    method : TrainedMethod
    backbone : Backbone
        Loaded, or planned (:func:`probe.loading.planning.plan_backbone`).
    size : Size, optional
        Size of the clip; by default the backbone's.

    Raises
    ------
    InvalidInputError
        For a size that the backbone does not take.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from generators.adapters.det import DeT
    >>> from generators.adapters.training.settings import Training
    >>> plan = plan_training(DeT(width=64, training=Training(steps=100)), load_backbone("mini"))
    >>> plan.parameters, plan.passes, plan.checkpointed < plan.activations
    (294912, 300.0, True)
    """
    size = backbone.default_size if size is None else size
    layout = backbone.layout(*size)
    training = method.resolve_training(backbone)
    adapter = method.new_adapter(backbone, size)
    weights = [each for denoiser in backbone.denoisers for each in denoiser.parameters()]
    return TrainingPlan.of_sizes(
        parameters=adapter.parameter_count,
        weights=sum(each.numel() * each.element_size() for each in weights),
        layers=len(backbone.layers),
        channels=backbone.layers[0].heads * backbone.layers[0].channels,
        tokens=layout.video_tokens + layout.text_tokens,
        steps=method.total_steps(backbone),
        passes=method.passes(backbone, training.steps),
        item=weights[0].element_size(),
        checkpointing=training.gradient_checkpointing,
    )
