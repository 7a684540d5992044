"""The noise levels of a run as plain numbers: noising a clip and inverting it, whatever the scheduler's class."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from probe.attention.wrapping import without_wrappers
from probe.backbones.geometry import Size
from store.arguments import check_fields, check_kind
from store.errors import InvalidInputError, UnsupportedBackboneError
from store.selection import resolve_number
from store.wording import Wording

if TYPE_CHECKING:
    from probe.backbones.backbone import Backbone

Prediction = Literal["epsilon", "v_prediction", "sample", "flow", "reversed_flow"]


@dataclass(frozen=True)
class Schedule:
    """Timesteps and noise levels of a run: the state of step i is ``signal[i] * clean + noise[i] * gaussian``.

    Parameters
    ----------
    timesteps : tuple of float
        The scheduler's values, one per step, step 0 = most noise.
    signal, noise : tuple of float
        One more than steps: the last entry is the clean end of the run.
    prediction : "epsilon", "v_prediction", "sample", "flow" or "reversed_flow"
        What the model predicts ("flow" is the velocity gaussian - clean, "reversed_flow" is clean - gaussian).
    clean_timestep : float
        Value given to the model at the clean end of the run.
    timestep_inputs : tuple of float
        Value given to the model at each step where that is not the scheduler's value, otherwise empty.

    Examples
    --------
    >>> from diffusers import FlowMatchEulerDiscreteScheduler
    >>> scheduler = FlowMatchEulerDiscreteScheduler()
    >>> scheduler.set_timesteps(sigmas=[1.0, 0.5])
    >>> Schedule.of(scheduler)
    Schedule(timesteps=(1000.0, 500.0), signal=(0.0, 0.5, 1.0), noise=(1.0, 0.5, 0.0), prediction='flow')
    """

    timesteps: tuple[float, ...]
    signal: tuple[float, ...]
    noise: tuple[float, ...]
    prediction: Prediction
    clean_timestep: float = field(default=0.0, repr=False)
    timestep_inputs: tuple[float, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    def of(cls, scheduler: Any) -> Schedule:
        """Read a scheduler on which ``set_timesteps`` was called.

        Raises
        ------
        UnsupportedBackboneError
            When it has neither flow-matching sigmas nor cumulative alphas.
        """
        timesteps = tuple(float(t) for t in scheduler.timesteps)
        prediction = _prediction(scheduler)
        if prediction == "reversed_flow":
            signal = tuple(float(sigma) for sigma in scheduler.sigmas)
            end = float(scheduler.config.num_train_timesteps)
            return cls(timesteps, signal, tuple(1.0 - sigma for sigma in signal), prediction, end)
        if prediction == "flow":
            noise = tuple(float(sigma) for sigma in scheduler.sigmas)
            return cls(timesteps, tuple(1.0 - sigma for sigma in noise), noise, prediction)
        alphas = [float(scheduler.alphas_cumprod[int(t)]) for t in timesteps]
        alphas.append(float(getattr(scheduler, "final_alpha_cumprod", 1.0)))
        return cls(timesteps, tuple(a**0.5 for a in alphas), tuple((1.0 - a) ** 0.5 for a in alphas), prediction)

    def __len__(self) -> int:
        return len(self.timesteps)

    def timestep_input(self, step: int) -> float:
        """Value given to the model at a step, or at the clean end of the run.

        Examples
        --------
        >>> schedule = Schedule((1000.0, 500.0), (0.0, 0.5, 1.0), (1.0, 0.5, 0.0), "flow", timestep_inputs=(1.0, 0.5))
        >>> schedule.timestep_input(-1), schedule.timestep_input(2)
        (0.5, 0.0)
        """
        return (
            self.clean_timestep if step == len(self) else (self.timestep_inputs or self.timesteps)[self.resolve(step)]
        )

    def resolve(self, step: int) -> int:
        """The non-negative step that ``step`` means; -1 is the last.

        Raises
        ------
        UnknownLayerError
        """
        return resolve_number("step", step, len(self), "run")

    def noised(self, latents: Tensor, noise: Tensor, step: int) -> Tensor:
        """Clean latents with the noise of a step added, as in training.

        Parameters
        ----------
        latents, noise : tensors of one shape
            Clean latents and standard gaussian noise.
        """
        step = self.resolve(step)
        return self.signal[step] * latents + self.noise[step] * noise

    def target(self, latents: Tensor, noise: Tensor, step: int) -> Tensor:
        """The prediction that a perfect model makes of the noised latents of a step: what training regresses.

        Parameters
        ----------
        latents, noise : tensors of one shape
            Clean latents and the gaussian noise that :meth:`noised` added.

        Examples
        --------
        >>> import torch
        >>> schedule = Schedule((999.0,), (0.6, 1.0), (0.8, 0.0), "v_prediction")
        >>> clean, noise = torch.tensor([1.0]), torch.tensor([2.0])
        >>> target = schedule.target(clean, noise, 0)
        >>> schedule.clean(schedule.noised(clean, noise, 0), target, 0)
        tensor([1.])
        """
        step = self.resolve(step)
        if self.prediction == "flow":
            return noise - latents
        if self.prediction == "reversed_flow":
            return latents - noise
        if self.prediction == "v_prediction":
            return self.signal[step] * noise - self.noise[step] * latents
        return noise if self.prediction == "epsilon" else latents

    def clean(self, latents: Tensor, prediction: Tensor, step: int) -> Tensor:
        """The clean latents that a prediction implies for the noisy latents of a step.

        Raises
        ------
        InvalidInputError
            For predicted noise at a step without any signal, where the clean latents are not determined.
        """
        step = self.resolve(step)
        signal, noise = self.signal[step], self.noise[step]
        if self.prediction == "flow":
            return latents - noise * prediction
        if self.prediction == "reversed_flow":
            return latents + noise * prediction
        if self.prediction == "v_prediction":
            return signal * latents - noise * prediction
        if self.prediction == "sample":
            return prediction
        if signal <= 0:
            raise InvalidInputError(
                f"step {step} has no signal, so the predicted noise does not determine the clean latents. Choose a "
                "later step."
            )
        return (latents - noise * prediction) / signal

    def move(self, latents: Tensor, prediction: Tensor, start: int, end: int) -> Tensor:
        """Follow the model's deterministic path from the noise level of one step to another's.

        One step of DDIM (Song et al. 2021, eq. 12 without noise) for diffusion models and of Euler's method for
        flow matching; ``end < start`` inverts. Step ``len(self)`` is the clean end.

        Raises
        ------
        InvalidInputError
            For a model that predicts the clean sample, or from a step without any signal.
        """
        signal, noise = self.signal[start], self.noise[start]
        if self.prediction == "flow":
            return latents + (self.noise[end] - noise) * prediction
        if self.prediction == "reversed_flow":
            return latents + (self.signal[end] - signal) * prediction
        if self.prediction == "v_prediction":
            clean, gaussian = signal * latents - noise * prediction, noise * latents + signal * prediction
        elif self.prediction == "epsilon" and signal > 0:
            clean, gaussian = (latents - noise * prediction) / signal, prediction
        else:
            raise InvalidInputError(
                f"a deterministic step from step {start} is not defined for a model that predicts {self.prediction!r}.",
                remedy=Wording("Use {noise} or {}.", repr("clean"), noise="forward"),
            )
        return self.signal[end] * clean + self.noise[end] * gaussian


class ScheduleReader:
    """Timesteps and noise levels of the runs of one backbone, read from copies of its scheduler."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone

    def __call__(self, steps: int = 50, size: Size | None = None) -> Schedule:
        """Return the schedule of a run.

        Parameters
        ----------
        steps : int
        size : Size, optional
            Size of the clip, :attr:`probe.Backbone.default_size` where not given; matters where the family shifts the
            noise levels by the number of tokens (LTX-Video).

        Raises
        ------
        InvalidInputError
            For fewer than one step, or more than the scheduler has.
        """
        check_kind(steps, int, "steps")
        self._backbone.arguments.check_steps(steps)
        scheduler = without_wrappers(copy.deepcopy(self._backbone.pipeline.scheduler))
        self._backbone.set_timesteps(scheduler, steps, size or self._backbone.default_size)
        return self._backbone.schedule_of(scheduler)


def _prediction(scheduler: Any) -> Prediction:
    kind = getattr(scheduler.config, "prediction_type", None)
    flows = kind == "flow_prediction" or type(scheduler).__name__.startswith("FlowMatch")
    if flows:
        return "reversed_flow" if getattr(scheduler.config, "invert_sigmas", False) else "flow"
    if kind in ("epsilon", "v_prediction", "sample") and hasattr(scheduler, "alphas_cumprod"):
        return kind
    raise UnsupportedBackboneError(
        f"{type(scheduler).__name__} has neither flow-matching sigmas nor cumulative alphas with a prediction type, so "
        "the noise level of a step is unknown. Set a DDIM, UniPC or flow-matching Euler scheduler on the pipeline."
    )
