"""Calls of the transformer of a family: their contents, and calls with other latents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from probe.backbones.family_tokens import FamilyTokens


class FamilyCalls(FamilyTokens):
    """Statements of a family about a call of its transformer: branches, latents, conditions, timestep, prediction."""

    guidance: ClassVar[Literal["batch", "calls"]]
    """"batch": one call with [uncond, cond]; "calls": one call a branch, cond first."""
    channels_last: ClassVar[bool] = False
    """Tell whether the transformer and the scheduler have the channels on the last axis; latents here have them before."""  # noqa: E501

    def text_tokens_of_call(self, call: Mapping[str, Any]) -> list[int]:
        """Return the text tokens in the self-attention of each batch element, padding not counted."""
        return [0] * len(call["hidden_states"])

    @classmethod
    def grid_of_call(cls, denoiser: Any, call: Mapping[str, Any]) -> tuple[int, int, int]:
        """Return the frames, rows and columns of the video tokens of a transformer call."""
        shape = cls.shown_in_call(call).shape
        sizes = (shape[cls.frame_axis], shape[-2], shape[-1])
        frames, rows, columns = (size // n for size, n in zip(sizes, cls.patch_of(denoiser), strict=True))
        return frames, rows, columns

    def is_guided(self, call: Mapping[str, Any]) -> bool:
        """Return whether the pipeline's current run, whose first transformer call is given, has both branches."""
        return float(getattr(self.pipeline, "_guidance_scale", None) or 0.0) > 1.0

    def branches_of_call(self, batch: int, *, call: int, guided: bool) -> list[tuple[str, int]]:
        """Return branch and sample of each batch element of the pipeline's ``call``-th transformer call in a step."""
        if self.guidance == "calls":
            return [("uncond" if call else "cond", sample) for sample in range(batch)]
        if not guided:
            return [("cond", sample) for sample in range(batch)]
        half = batch // 2
        return [("uncond" if i < half else "cond", i % half) for i in range(batch)]

    @classmethod
    def in_layout(cls, tensor: Tensor) -> Tensor:
        """Return what the transformer takes or predicts in the layout of latents."""
        return tensor.movedim(-1, 3 - cls.frame_axis) if cls.channels_last else tensor

    @classmethod
    def as_called(cls, latents: Tensor) -> Tensor:
        """Return latents as the transformer takes them; undoes :meth:`in_layout`."""
        return latents.movedim(3 - cls.frame_axis, -1) if cls.channels_last else latents

    @classmethod
    def shown_in_call(cls, call: Mapping[str, Any]) -> Tensor:
        """Return all that a transformer call shows, in the layout of latents: latents, then conditions' channels."""
        return cls.in_layout(call["hidden_states"])

    @classmethod
    def channels_of(cls, denoiser: Any) -> int | None:
        """Return the channels of the latents; None if no conditions are concatenated."""
        count: int | None = denoiser.config.out_channels
        return count

    def calls_a_step(self, *, guided: bool) -> int | None:
        """Return the transformer calls of a step where they tell steps apart; None if the scheduler is stepped."""
        return None

    def check_latents_edited(self) -> None:
        """Raise where latents that are edited between steps would not reach the sampler.

        Raises
        ------
        UnsupportedBackboneError
        """

    def latents_of_call(self, denoiser: Any, call: Mapping[str, Any]) -> Tensor:
        """Return the latents in a transformer call, without channels of conditions."""
        shown, axis = self.shown_in_call(call), self.geometry.channel_axis
        return shown.narrow(axis, 0, self.channels_of(denoiser) or shown.shape[axis])

    def call_with_latents(self, call: Mapping[str, Any], latents: Tensor) -> dict[str, Any]:
        """Return a transformer call with other latents in every batch element, in its data type and on its device.

        Channels after those of ``latents`` stay as they are; ``latents`` may also bring channels of its own for them.
        """
        shown, axis = self.shown_in_call(call), self.geometry.channel_axis
        latents = latents.to(shown.device, shown.dtype).expand(len(shown), *latents.shape[1:])
        count = latents.shape[axis]
        if shown.shape[axis] > count:
            latents = torch.cat([latents, shown.narrow(axis, count, shown.shape[axis] - count)], dim=axis)
        return {**call, "hidden_states": self.as_called(latents)}

    def in_sampler_layout(self, latents: Tensor, sampled: Tensor) -> Tensor:
        """Return latents in the layout of those that the scheduler steps, ``sampled``.

        Where a first frame is that of an image, the scheduler steps the frames after it.
        """
        axis, count = self.frame_axis, self.in_layout(sampled).shape[self.frame_axis]
        return self.as_called(latents.narrow(axis, latents.shape[axis] - count, count))

    def kept_in_sampler(self, call: Mapping[str, Any]) -> Tensor | None:
        """Return where the scheduler's latents stay as they are, whatever is edited, as a mask that broadcasts to them.

        None is nowhere. Override it where a call shows conditions in place of some of the latents.
        """
        return None

    def prediction_for_sampler(self, prediction: Tensor, shown: Tensor, edited: Tensor) -> Tensor:
        """Return a prediction for edited latents as the pipeline needs it, which may combine it with its own.

        Parameters
        ----------
        prediction, shown, edited : in the layout of latents
            What the transformer predicts for ``edited``, and what the pipeline showed.
        """
        return prediction

    def timestep_of_call(self, call: Mapping[str, Any], timestep: float) -> Tensor:
        """Return what the transformer is given for what the schedule tells it at a step, in the shape of ``call``'s."""
        return torch.full_like(call["timestep"], timestep)

    def replayed(self, call: Mapping[str, Any], timestep: float) -> dict[str, Any]:
        """Return the arguments other than the latents that a forward pass changes in a call: the timestep."""
        return {"timestep": self.timestep_of_call(call, timestep)}

    def prediction_of(self, output: Any, call: Mapping[str, Any]) -> Tensor:
        """Return the prediction, shaped like the latents, in what a transformer returned."""
        prediction: Tensor = output[0] if isinstance(output, tuple) else output.sample
        return self.in_layout(prediction)

    def output_with(self, output: Any, prediction: Tensor, call: Mapping[str, Any]) -> Any:
        """Return what a transformer returned with another prediction in it; undoes :meth:`prediction_of`."""
        prediction = self.as_called(prediction)
        return (prediction, *output[1:]) if isinstance(output, tuple) else type(output)(sample=prediction)
