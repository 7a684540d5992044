"""The mini backbones' text side: a tokenizer of whole words, and a small CLIP encoder learnt with the transformer."""

from __future__ import annotations

import re
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from store.scenes.prompt import DIRECTIONS, MOST_OBJECTS, PromptError, ScenePrompt, parse_prompt, scene_words

PAD, UNKNOWN = "<pad>", "<unknown>"
NOTHING = "<nothing>"
"""The token of a part that a prompt does not name, or does not have."""
_BETWEEN = "|"


class SceneTokenizer(PreTrainedTokenizerFast):
    """Scene prompts as tokens, never more than ``model_max_length``; CogVideoX pipelines ask for 226 by default.

    Parameters
    ----------
    slots : bool
        Give each part of a scene prompt one token at a fixed place (:func:`slots_of`). The text encoder has no
        attention, so with the words in the order of the sentence nothing tells it whether an "up" belongs to an object
        or to the camera. Other sentences, and all sentences if False, are the numbers of their words in order.
    others : of ``PreTrainedTokenizerFast``
    """

    @property
    def slots(self) -> bool:
        """True if made with ``slots``."""
        return bool(self.init_kwargs.get("slots"))

    def __call__(self, text: Any = None, *args: Any, max_length: int | None = None, **options: Any) -> Any:
        """As of any transformers tokenizer."""
        longest = None if max_length is None else min(max_length, self.model_max_length)
        if self.slots:
            text = _in_slots(text) if isinstance(text, str) else [_in_slots(each) for each in text]
        return super().__call__(text, *args, max_length=longest, **options)


def phrases() -> tuple[str, ...]:
    """Tokens of several words: every motion of an object and of the camera.

    Examples
    --------
    >>> len(phrases()), phrases()[3]
    (20, 'moves down left')
    """
    moves = (f"{verb} {direction}" for verb in ("moves", "pans") for direction in DIRECTIONS)
    return (*moves, "zooms in", "zooms out", "turns left", "turns right")


def known_tokens(slots: bool) -> tuple[str, ...]:
    """All tokens of a tokenizer with or without slots, in the order of their numbers.

    Examples
    --------
    >>> len(known_tokens(False)), len(known_tokens(True))
    (45, 66)
    """
    return (PAD, UNKNOWN, *scene_words(), *((NOTHING, *phrases()) if slots else ()))


def slots_of(prompt: ScenePrompt) -> list[str]:
    """The tokens of a scene prompt, 17: four for each of three objects, two for the background, three for the camera.

    Examples
    --------
    >>> found = slots_of(parse_prompt("a red disc moves up left over blue while the camera zooms in"))
    >>> found[:5], found[12:]
    (['red', '<nothing>', 'disc', 'moves up left', '<nothing>'], ['blue', '<nothing>', '<nothing>', 'zooms in', '<nothing>'])
    """  # noqa: E501
    found: list[str | None] = []
    for thing in prompt.objects:
        motion = f"moves {thing.direction}" if thing.direction else None
        found += [thing.colour, thing.texture, thing.shape or "object", motion]
    found += [None] * (4 * (MOST_OBJECTS - len(prompt.objects)))
    camera = prompt.camera
    found += [prompt.background_colour, prompt.background_pattern]
    found.append("moves" if camera.open else f"pans {camera.pan}" if camera.pan else None)
    found.append(f"zooms {camera.zoom}" if camera.zoom else None)
    found.append(f"turns {camera.turn}" if camera.turn else None)
    return [NOTHING if word is None else word for word in found]


def _in_slots(text: str) -> str:
    try:
        return _BETWEEN.join(slots_of(parse_prompt(text)))
    except PromptError:
        return _BETWEEN.join(re.findall("[a-z]+", text.lower()))


def new_tokenizer(tokens: int, *, slots: bool = True) -> SceneTokenizer:
    """A transformers tokenizer of the scene grammar; case and punctuation are dropped.

    Parameters
    ----------
    tokens : int
        Most tokens of a prompt.
    slots : bool
        As of :class:`SceneTokenizer`.

    Examples
    --------
    >>> tokenizer = new_tokenizer(40)
    >>> ids = tokenizer("A red disc moves left over blue dots.", padding="max_length", return_tensors="pt").input_ids
    >>> ids.shape, tokenizer.convert_ids_to_tokens(ids[0, :4])
    (torch.Size([1, 40]), ['red', '<nothing>', 'disc', 'moves left'])
    >>> tokenizer.decode(new_tokenizer(40, slots=False)("A red disc moves left.").input_ids)
    'a red disc moves left'
    """
    numbers = {word: number for number, word in enumerate(known_tokens(slots))}
    words = Tokenizer(models.WordLevel(numbers, unk_token=UNKNOWN))
    if slots:
        words.pre_tokenizer = pre_tokenizers.Split(_BETWEEN, "removed")
    else:
        words.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(Regex("[^a-z]+"), " ")])
        words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return SceneTokenizer(
        slots=slots,
        tokenizer_object=words,
        pad_token=PAD,
        unk_token=UNKNOWN,
        model_max_length=tokens,
        padding_side="right",
    )


def new_text_encoder(words: int, channels: int, tokens: int) -> CLIPTextModel:
    """An untrained encoder: (prompt, token) word numbers to (prompt, token, channel).

    It has no attention of its own, only CLIP's embeddings of words and positions and its last norm. Encoders with
    layers, trained jointly from nothing, wrote the colour of the object into every token and lost the direction.
    """
    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=channels,
        num_hidden_layers=0,
        num_attention_heads=4,
        max_position_embeddings=tokens,
        initializer_factor=50.0,  # embeddings of unit variance
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
    )
    return CLIPTextModel(config)
