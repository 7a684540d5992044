"""The mini backbone's text side: a tokenizer of whole words and an embedding learnt with the transformer."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from transformers import BatchEncoding

from store.errors import InvalidInputError
from store.scene import DIRECTIONS, SHAPES
from store.texture import BACKGROUND_PATTERNS, COLOURS

PAD, UNKNOWN = "<pad>", "<unknown>"
_GLUE = ["a", "an", "and", "over", "while", "the", "camera", "pans", "zooms", "turns", "in", "out", "moves"]


def vocabulary() -> tuple[str, ...]:
    """Every word that scene prompts use, after the padding and the unknown word."""
    directions = [word for direction in DIRECTIONS for word in direction.split()]
    words = [*_GLUE, *directions, *COLOURS, *SHAPES, *BACKGROUND_PATTERNS]
    return (PAD, UNKNOWN, *sorted(set(words)))


class WordTokenizer:
    """Splits a prompt into known words; the call interface is that of a transformers tokenizer.

    Examples
    --------
    >>> tokenizer = WordTokenizer(vocabulary(), 32)
    >>> ids = tokenizer("a red disc moves left", padding="max_length", return_tensors="pt").input_ids
    >>> ids.shape, tokenizer.decode(ids[0])
    (torch.Size([1, 32]), 'a red disc moves left')
    """

    file_name = "words.json"

    def __init__(self, words: Sequence[str], model_max_length: int) -> None:
        self.words = tuple(words)
        self.model_max_length = model_max_length
        self.index = {word: index for index, word in enumerate(self.words)}

    def __call__(
        self,
        text: str | Sequence[str],
        *,
        padding: str = "max_length",
        max_length: int | None = None,
        truncation: bool = False,
        add_special_tokens: bool = True,
        return_tensors: str = "pt",
    ) -> BatchEncoding:
        """Word numbers (prompt, token), padded to the longest or to ``model_max_length``, never beyond it."""
        texts = [text] if isinstance(text, str) else list(text)
        rows = [[self.index.get(word, self.index[UNKNOWN]) for word in re.findall(r"[a-z]+", t.lower())] for t in texts]
        limit = min(max_length or self.model_max_length, self.model_max_length)
        length = limit if padding == "max_length" else max(1, *(len(row) for row in rows), 1)
        ids = torch.full((len(rows), length), self.index[PAD], dtype=torch.long)
        for index, row in enumerate(rows):
            row = row[:length]
            ids[index, : len(row)] = torch.tensor(row, dtype=torch.long)
        return BatchEncoding({"input_ids": ids, "attention_mask": (ids != self.index[PAD]).long()})

    def decode(self, ids: Any, **_: Any) -> str:
        """Word numbers back to a sentence, padding left out."""
        return " ".join(self.words[int(index)] for index in ids if int(index) != self.index[PAD])

    def batch_decode(self, batch: Any, **options: Any) -> list[str]:
        """:meth:`decode` for each row."""
        return [self.decode(ids) for ids in batch]

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Writes the word list as JSON."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        content = {"model_max_length": self.model_max_length, "words": self.words}
        (Path(folder) / self.file_name).write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path, **_: Any) -> WordTokenizer:
        """Reads what :meth:`save_pretrained` wrote."""
        path = Path(folder) / cls.file_name
        if not path.is_file():
            raise InvalidInputError(f"no tokenizer at {folder}: {cls.file_name} is missing.")
        content = json.loads(path.read_text())
        return cls(content["words"], content["model_max_length"])


class WordEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]  # both bases of diffusers define config_name
    """Word and position embeddings, learnt jointly with the transformer; returns ``(states,)`` as T5 does.

    Examples
    --------
    >>> WordEncoder(50, 16, 32)(torch.zeros(2, 32, dtype=torch.long))[0].shape
    torch.Size([2, 32, 16])
    """

    @register_to_config
    def __init__(self, words: int, channels: int, tokens: int) -> None:
        super().__init__()
        self.word = nn.Embedding(words, channels)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, channels))

    def forward(self, ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> tuple[torch.Tensor]:
        """(prompt, token) word numbers to (prompt, token, channel)."""
        return (self.word(ids) + self.position[: ids.shape[1]],)
