"""The bundled backbones as a family: CogVideoX, with a check that it can read a prompt."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from probe.families.cogvideox import CogVideoX
from probe.mini.text import known_tokens
from store.clips.clip import Clip
from store.scenes.prompt import ANY_SHAPE, PromptError, PromptWarning, parse_prompt

GUIDANCE_SCALE = 4.0
"""Of classifier-free guidance where none is asked for; the model card has what was measured."""


def reads_scenes(pipeline: Any) -> bool:
    """Tell whether the tokenizer of a pipeline knows the words of scene prompts, and no others.

    The first weights, mini@1 and mini-rope@1, do not know :data:`store.scenes.prompt.ANY_SHAPE`: they were not trained
    on open prompts.

    Examples
    --------
    >>> from probe.mini import MiniConfig, new_pipeline
    >>> reads_scenes(new_pipeline(MiniConfig(layers=1)))
    True
    """
    tokenizer = pipeline.tokenizer
    if not hasattr(tokenizer, "get_vocab"):
        return False
    slots = bool(getattr(tokenizer, "slots", False))
    return {*tokenizer.get_vocab(), ANY_SHAPE} == set(known_tokens(slots))


class Mini(CogVideoX):
    """A CogVideoX pipeline that was trained on :func:`store.make_scene` and reads no other prompts.

    Unknown words are rejected. Known ones in an order that :mod:`store.scenes.prompt` does not have are run with a
    warning. The empty prompt is fine: it was part of the training.
    """

    def check_prompt(
        self, prompt: str | None, negative_prompt: str | None = None, conditioning: Mapping[str, Any] | None = None
    ) -> None:
        """Raise for words that it was not trained on; warn where their order is another.

        Raises
        ------
        InvalidInputError
            As for any backbone; a :class:`store.scenes.prompt.PromptError` for an unknown word.

        Warns
        -----
        PromptWarning
            When the prompt, not the negative one, is outside the grammar.
        """
        super().check_prompt(prompt, negative_prompt, conditioning)
        given = {"prompt": prompt, "negative_prompt": negative_prompt, **(conditioning or {})}
        if given.get("prompt_embeds") is not None:
            return
        self._error_of(given["negative_prompt"])
        error = self._error_of(given["prompt"])
        if error is not None:
            _warn(f"{self.name} was trained on another kind of prompt than {given['prompt']!r}: {error}")

    def caption_of(self, clip: Clip) -> str | None:
        """The clip's own prompt, or an empty one, with a warning, where it has words that the model does not know.

        Warns
        -----
        PromptWarning
        """
        try:
            self._error_of(clip.prompt)
        except PromptError as error:
            _warn(f"the clip is shown to {self.name} without its prompt {clip.prompt!r}: {error}")
            return ""
        return clip.prompt

    def _error_of(self, prompt: str | None) -> PromptError | None:
        """Reason why a prompt of known words is not of the kind that the weights were trained on, or None.

        Raises
        ------
        PromptError
            For an unknown word.
        """
        if not (prompt or "").strip():
            return None
        try:
            words = parse_prompt(str(prompt))
        except PromptError as error:
            if not error.known_words:
                raise
            return error
        if not words.left_open or ANY_SHAPE in self.pipeline.tokenizer.get_vocab():
            return None
        found = PromptError(
            f"it leaves the {' and the '.join(words.left_open)} open, and these weights were trained on prompts that "
            "name everything.",
            known_words="shape" not in words.left_open,
        )
        if not found.known_words:
            raise found
        return found

    def guidance_arguments(
        self, scale: float | None, negative_prompt: str | None, conditioning: Mapping[str, Any]
    ) -> dict[str, Any]:
        return super().guidance_arguments(GUIDANCE_SCALE if scale is None else scale, negative_prompt, conditioning)


def _warn(message: str) -> None:
    # as of this line, wherever it is called from, so that Python shows a message once and not at every run
    warnings.warn(message, PromptWarning, stacklevel=1)
