"""The keyword arguments of a pipeline's call: checked before anything runs, and split by branch of guidance."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from probe.geometry import Size, TokenGeometry
from store.errors import InvalidInputError


class PipelineArguments(TokenGeometry):
    """What a backbone knows about calling its pipeline."""

    guidance_remedy: ClassVar[str] = "Pass a guidance_scale above 1, or select branches=('cond',)."

    def arguments(
        self,
        prompt: str | None,
        *,
        seed: int = 0,
        steps: int = 50,
        height: int | None = None,
        width: int | None = None,
        images: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | None = None,
        conditioning: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The keyword arguments with which the pipeline is called for a run; see :meth:`generate`.

        Raises
        ------
        InvalidInputError
        """
        size = Size(
            *(given or default for given, default in zip((height, width, images), self.default_size, strict=True))
        )
        self.check_size(*size)
        if steps < 1:
            raise InvalidInputError(f"a run needs at least 1 step; got steps={steps}.")
        chosen: dict[str, Any] = {"height": size.height, "width": size.width, "num_frames": size.images}
        chosen["num_inference_steps"] = steps
        chosen["generator"] = torch.Generator("cpu").manual_seed(seed)
        chosen.update(self._guidance_arguments(guidance_scale, negative_prompt, conditioning or {}))
        chosen.update(self._prompt_arguments(prompt, negative_prompt, conditioning or {}))
        chosen.update(conditioning or {})
        return chosen

    def _guidance_arguments(
        self, scale: float | None, negative_prompt: str | None, conditioning: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {} if scale is None else {"guidance_scale": float(scale)}

    def _prompt_arguments(
        self, prompt: str | None, negative_prompt: str | None, conditioning: Mapping[str, Any]
    ) -> dict[str, Any]:
        chosen: dict[str, Any] = {}
        if "prompt_embeds" not in conditioning:
            if getattr(self.pipeline, "text_encoder", None) is None:
                raise InvalidInputError(
                    f"{self.name} has no text encoder, so the prompt {prompt!r} cannot be read. Pass "
                    "conditioning={'prompt_embeds': ..., 'negative_prompt_embeds': ...}, arguments of its pipeline."
                )
            chosen["prompt"] = prompt or ""
            if negative_prompt is not None:
                chosen["negative_prompt"] = negative_prompt
        return chosen

    def wants_guidance(self, arguments: Mapping[str, Any]) -> bool:
        """Whether a pipeline call with these arguments runs both branches."""
        default = inspect.signature(type(self.pipeline).__call__).parameters["guidance_scale"].default
        return float(arguments.get("guidance_scale", default)) > 1.0

    def of_branch(self, arguments: Mapping[str, Any], branch: str) -> dict[str, Any]:
        """Arguments of a pipeline call without classifier-free guidance that runs one branch alone.

        Raises
        ------
        InvalidInputError
            When the negative conditioning is neither given nor can be made from a prompt.
        """
        chosen = {**arguments, **self._unguided()}
        negative = {name: chosen.pop(name) for name in list(chosen) if name.startswith("negative_")}
        if branch == "cond":
            return chosen
        if "prompt_embeds" in chosen and "negative_prompt_embeds" not in negative:
            raise InvalidInputError(
                "branch 'uncond' was asked for, but the conditioning has prompt_embeds without negative_prompt_embeds. "
                "Add negative_prompt_embeds (and what else the pipeline takes with it)."
            )
        if "prompt_embeds" not in chosen:
            chosen["prompt"] = ""
        return {**chosen, **{name.removeprefix("negative_"): value for name, value in negative.items()}}

    def _unguided(self) -> dict[str, Any]:
        return {"guidance_scale": 1.0}
