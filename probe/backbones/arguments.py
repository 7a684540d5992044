"""Keyword arguments of a pipeline's call: checked before anything runs, and split by branch of guidance."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from probe.backbones.settings import RunSettings, check_seed
from store.checks import finite
from store.errors import InvalidInputError
from store.wording import Wording

if TYPE_CHECKING:
    from probe.backbones.family import Family


class PipelineArguments:
    """Arguments with which the pipeline of one backbone is called; calling it prepares those of a run.

    Parameters
    ----------
    family : Family
        The backbone itself.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from probe.mini import new_pipeline
    >>> backbone = load_backbone(new_pipeline())
    >>> arguments = backbone.arguments("a red disc moves left over blue stripes", steps=2)
    >>> arguments["num_inference_steps"], arguments["height"]
    (2, 40)
    """

    def __init__(self, family: Family) -> None:
        self._family = family

    def __call__(self, prompt: str | None, settings: RunSettings | None = None, **keywords: Any) -> dict[str, Any]:
        """Return the keyword arguments with which the pipeline is called for a run.

        Parameters
        ----------
        prompt : str or None
        settings : RunSettings, optional
            Settings of the run; or its values as keywords, as in :meth:`probe.Backbone.generate`.

        Raises
        ------
        InvalidInputError
        """
        family, settings = self._family, settings or RunSettings.of(**keywords)
        conditioning = settings.conditioning or {}
        family.check_prompt(prompt, settings.negative_prompt, conditioning)
        size = family.geometry.resolve_size(*settings.size)
        self.check_steps(settings.steps)
        chosen = family.size_arguments(size)
        chosen["num_inference_steps"] = settings.steps
        chosen["generator"] = torch.Generator("cpu").manual_seed(check_seed(settings.seed))
        chosen.update(family.guidance_arguments(settings.guidance_scale, settings.negative_prompt, conditioning))
        chosen.update(family.prompt_arguments(prompt, settings.negative_prompt, conditioning))
        chosen.update(conditioning)
        self._check_known(conditioning)
        family.check_clip_argument(chosen, size.images)
        for name, value in chosen.items():
            if isinstance(value, float):
                finite(value, name)
        return chosen

    def _check_known(self, conditioning: Mapping[str, Any]) -> None:
        """Raise for conditioning that the pipeline's call has no argument for."""
        pipeline = type(self._family.pipeline)
        taken = inspect.signature(pipeline.__call__).parameters
        if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in taken.values()):
            return
        taken_too = self._family.further_arguments
        unknown = [name for name in conditioning if name not in taken and name not in taken_too]
        if unknown:
            raise InvalidInputError(
                f"conditioning has {', '.join(map(repr, unknown))}, which {pipeline.__name__} does not "
                f"take. It takes {', '.join(name for name in taken if name != 'self')}."
            )

    def check_steps(self, steps: int) -> None:
        """Raise for a number of steps that the scheduler does not have.

        Raises
        ------
        InvalidInputError
            Below one, or more than the whole timesteps that the model was trained with (flow-matching Euler takes
            any number: its timesteps need not be whole).
        """
        if steps < 1:
            raise InvalidInputError(Wording("a run needs at least 1 step; got {steps}.", steps=steps))
        scheduler = self._family.pipeline.scheduler
        most = getattr(scheduler.config, "num_train_timesteps", None)
        if most is not None and steps > most and hasattr(scheduler, "alphas_cumprod"):
            raise InvalidInputError(
                Wording(
                    "a run of {} steps was asked for; {} has {} timesteps, so at most {steps}.",
                    *(steps, type(scheduler).__name__, most),
                    steps=most,
                )
            )

    def check_negative(self, arguments: Mapping[str, Any]) -> None:
        """Raise for a guided pipeline call whose negative text would have to be read, without a text encoder.

        Raises
        ------
        InvalidInputError
        """
        family = self._family
        if (
            not family.reads_text
            and family.wants_guidance(arguments)
            and f"negative_{family.embeddings}" not in arguments
        ):
            raise InvalidInputError(
                f"{family.name} has no text encoder, so it cannot read the empty negative prompt of a guided run. Add "
                f"negative_{family.embeddings} to the conditioning, or pass guidance_scale=1."
            )

    def of_branch(self, arguments: Mapping[str, Any], branch: str) -> dict[str, Any]:
        """Return arguments of a pipeline call without classifier-free guidance that runs one branch alone.

        Raises
        ------
        InvalidInputError
            When the negative conditioning is neither given nor can be made from a prompt.
        """
        chosen = self._family.replay_arguments(arguments)
        negative = {name: chosen.pop(name) for name in list(chosen) if name.startswith("negative_")}
        if branch == "cond":
            return chosen
        given = self._family.embeddings
        if given in chosen and f"negative_{given}" not in negative:
            raise InvalidInputError(
                f"branch 'uncond' was asked for, but the conditioning has {given} without negative_{given}. "
                f"Add negative_{given} (and what else the pipeline takes with it)."
            )
        if given not in chosen:
            chosen["prompt"] = ""
        return {**chosen, **{name.removeprefix("negative_"): value for name, value in negative.items()}}


def describe_prompt(value: object) -> str:
    """Return what was given in place of one text, for a message: its kind, and how many a list has.

    Examples
    --------
    >>> describe_prompt(["a", "b"]), describe_prompt(7)
    ('a list of 2', 'the int 7')
    """
    kind = type(value).__name__
    if isinstance(value, list | tuple):
        return f"a {kind} of {len(value)}"
    return f"the {kind} {value!r}" if isinstance(value, int | float) else f"an object of type {kind}"
