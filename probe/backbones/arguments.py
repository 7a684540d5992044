"""The keyword arguments of a pipeline's call: checked before anything runs, and split by branch of guidance."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from probe.backbones.geometry import Size, TokenGeometry
from store.checks import finite, height_and_width, integer
from store.errors import InvalidInputError


def described(value: object) -> str:
    """What was given in place of one text, for a message: its kind, and how many a list has.

    Examples
    --------
    >>> described(["a", "b"]), described(7)
    ('a list of 2', 'the int 7')
    """
    kind = type(value).__name__
    if isinstance(value, list | tuple):
        return f"a {kind} of {len(value)}"
    return f"the {kind} {value!r}" if isinstance(value, int | float) else f"an object of type {kind}"


def check_seed(seed: int) -> int:
    """Refuse a seed that a generator of torch does not take.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> check_seed(3)
    3
    """
    return integer(seed, "seed", least=-(2**63), most=2**64 - 1)


class PipelineArguments(TokenGeometry):
    """What a backbone knows about calling its pipeline."""

    guidance_remedy: ClassVar[str] = "Pass a guidance_scale above 1, or select branches=('cond',)."

    def arguments(
        self,
        prompt: str | None,
        *,
        seed: int = 0,
        steps: int = 50,
        size: tuple[int, int] | None = None,
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
        height, width = height_and_width(size, height, width)
        whole = Size(
            *(given or default for given, default in zip((height, width, images), self.default_size, strict=True))
        )
        self.check_prompt(prompt, negative_prompt, conditioning)
        self.check_size(*whole)
        self.check_steps(steps)
        chosen: dict[str, Any] = {"height": whole.height, "width": whole.width, "num_frames": whole.images}
        chosen["num_inference_steps"] = steps
        chosen["generator"] = torch.Generator("cpu").manual_seed(check_seed(seed))
        chosen.update(self._guidance_arguments(guidance_scale, negative_prompt, conditioning or {}))
        chosen.update(self._prompt_arguments(prompt, negative_prompt, conditioning or {}))
        chosen.update(conditioning or {})
        self._check_known(conditioning or {})
        for name, value in chosen.items():
            if isinstance(value, float):
                finite(value, name)
        return chosen

    def _check_known(self, conditioning: Mapping[str, Any]) -> None:
        """Refuse conditioning that the pipeline's call has no argument for."""
        taken = inspect.signature(type(self.pipeline).__call__).parameters
        if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in taken.values()):
            return
        unknown = [name for name in conditioning if name not in taken]
        if unknown:
            raise InvalidInputError(
                f"conditioning has {', '.join(map(repr, unknown))}, which {type(self.pipeline).__name__} does not "
                f"take. It takes {', '.join(name for name in taken if name != 'self')}."
            )

    def check_prompt(
        self, prompt: str | None, negative_prompt: str | None = None, conditioning: Mapping[str, Any] | None = None
    ) -> None:
        """Refuse what is not one prompt, or has words that the model cannot read; every run begins with it.

        Raises
        ------
        InvalidInputError
        """
        for text in (prompt, negative_prompt):
            if text is not None and not isinstance(text, str):
                raise InvalidInputError(
                    f"generate makes one clip from one prompt; got {described(text)}. Call it once for each prompt."
                )

    def check_steps(self, steps: int) -> None:
        """Refuse a number of steps that the scheduler does not have.

        Raises
        ------
        InvalidInputError
            Below one, or more than the whole timesteps that the model was trained with (flow-matching Euler takes
            any number: its timesteps need not be whole).
        """
        if steps < 1:
            raise InvalidInputError(f"a run needs at least 1 step; got steps={steps}.")
        scheduler = self.pipeline.scheduler
        most = getattr(scheduler.config, "num_train_timesteps", None)
        if most is not None and steps > most and hasattr(scheduler, "alphas_cumprod"):
            raise InvalidInputError(
                f"a run of {steps} steps was asked for; {type(scheduler).__name__} has {most} timesteps, so at most "
                f"steps={most}."
            )

    def _guidance_arguments(
        self, scale: float | None, negative_prompt: str | None, conditioning: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {} if scale is None else {"guidance_scale": finite(scale, "guidance_scale")}

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
        return self.guidance_of(arguments) > 1.0

    def guidance_of(self, arguments: Mapping[str, Any]) -> float:
        """The guidance scale of a pipeline call with these arguments."""
        default = inspect.signature(type(self.pipeline).__call__).parameters["guidance_scale"].default
        return float(arguments.get("guidance_scale", default))

    def check_negative(self, arguments: Mapping[str, Any]) -> None:
        """Refuse a guided pipeline call whose negative text would have to be read, where there is no text encoder.

        Raises
        ------
        InvalidInputError
        """
        if (
            getattr(self.pipeline, "text_encoder", None) is None
            and self.wants_guidance(arguments)
            and "negative_prompt_embeds" not in arguments
        ):
            raise InvalidInputError(
                f"{self.name} has no text encoder, so it cannot read the empty negative prompt of a guided run. Add "
                "negative_prompt_embeds to the conditioning, or pass guidance_scale=1."
            )

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
