"""The mini backbones' text side: a tokenizer of whole words, and a small CLIP encoder learnt with the transformer."""

from __future__ import annotations

from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from store.scenes.prompt import scene_words

PAD, UNKNOWN = "<pad>", "<unknown>"


class SceneTokenizer(PreTrainedTokenizerFast):
    """Never returns more tokens than ``model_max_length``; CogVideoX pipelines ask for 226 by default."""

    def __call__(self, *args: Any, max_length: int | None = None, **options: Any) -> Any:
        """As of any transformers tokenizer."""
        longest = None if max_length is None else min(max_length, self.model_max_length)
        return super().__call__(*args, max_length=longest, **options)


def new_tokenizer(tokens: int) -> SceneTokenizer:
    """A transformers tokenizer that numbers the words of the scene grammar; case and punctuation are dropped.

    Examples
    --------
    >>> tokenizer = new_tokenizer(40)
    >>> ids = tokenizer("A red disc moves left.", padding="max_length", return_tensors="pt").input_ids
    >>> ids.shape, tokenizer.decode(ids[0], skip_special_tokens=True)
    (torch.Size([1, 40]), 'a red disc moves left')
    """
    numbers = {word: number for number, word in enumerate((PAD, UNKNOWN, *scene_words()))}
    words = Tokenizer(models.WordLevel(numbers, unk_token=UNKNOWN))
    words.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(Regex("[^a-z]+"), " ")])
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return SceneTokenizer(
        tokenizer_object=words, pad_token=PAD, unk_token=UNKNOWN, model_max_length=tokens, padding_side="right"
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
