"""The mini backbone: a CogVideoX pipeline small enough to train on a laptop, with weights in the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel

from probe.mini.codec import PixelCodec
from probe.mini.text import WordEncoder, WordTokenizer, vocabulary
from store.errors import BackboneNotFoundError

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class MiniConfig:
    """Sizes of the mini backbone. Images are pixels; a cell is 4 x 4 pixels (2 x 2 codec, patch 2)."""

    images: int = 5
    height: int = 32
    width: int = 32
    layers: int = 6
    heads: int = 4
    channels: int = 32
    text_tokens: int = 32
    text_channels: int = 64


def new_scheduler() -> CogVideoXDDIMScheduler:
    """CogVideoX's DDIM schedule: v-prediction, zero terminal signal-to-noise ratio, trailing steps."""
    return CogVideoXDDIMScheduler(
        beta_start=0.00085,
        beta_end=0.0120,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=1.0,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def new_transformer(config: MiniConfig) -> CogVideoXTransformer3DModel:
    """A randomly initialised transformer of diffusers' own CogVideoX class, with additive sinusoidal positions."""
    return CogVideoXTransformer3DModel(
        num_attention_heads=config.heads,
        attention_head_dim=config.channels,
        in_channels=12,
        out_channels=12,
        time_embed_dim=128,
        text_embed_dim=config.text_channels,
        num_layers=config.layers,
        sample_width=config.width // 2,
        sample_height=config.height // 2,
        sample_frames=config.images,
        patch_size=2,
        temporal_compression_ratio=1,
        max_text_seq_length=config.text_tokens,
        use_rotary_positional_embeddings=False,
    )


def new_pipeline(config: MiniConfig | None = None) -> CogVideoXPipeline:
    """An untrained mini pipeline, for training and for tests.

    Examples
    --------
    >>> new_pipeline(MiniConfig(layers=1)).transformer.config.num_layers
    1
    """
    config = config or MiniConfig()
    words = vocabulary()
    return CogVideoXPipeline(
        tokenizer=WordTokenizer(words, config.text_tokens),
        text_encoder=WordEncoder(len(words), config.text_channels, config.text_tokens),
        vae=PixelCodec(),
        transformer=new_transformer(config),
        scheduler=new_scheduler(),
    )


def save_mini(pipeline: Any, folder: str | Path) -> None:
    """Write the five components of a mini pipeline, one folder each."""
    for name, part in pipeline.components.items():
        part.save_pretrained(Path(folder) / name)


def load_mini(folder: str | Path = WEIGHTS, *, dtype: torch.dtype = torch.float32) -> CogVideoXPipeline:
    """The bundled mini backbone as a diffusers pipeline, without a network.

    Parameters
    ----------
    folder : of weights that :func:`save_mini` wrote; the bundled ones by default
    dtype : torch.dtype
        Of the transformer, the text encoder and the codec.

    Raises
    ------
    BackboneNotFoundError
        When the folder does not hold the five components.

    Examples
    --------
    >>> type(load_mini().transformer).__name__
    'CogVideoXTransformer3DModel'
    """
    folder = Path(folder)
    models: dict[str, Any] = {
        "text_encoder": WordEncoder,
        "vae": PixelCodec,
        "transformer": CogVideoXTransformer3DModel,
    }
    others: dict[str, Any] = {"tokenizer": WordTokenizer, "scheduler": CogVideoXDDIMScheduler}
    missing = [name for name in (*others, *models) if not (folder / name).is_dir()]
    if missing:
        raise BackboneNotFoundError(
            f"no mini backbone at {folder}: {', '.join(missing)} missing. Train one with python -m probe.mini.train."
        )
    parts: dict[str, Any] = {name: part.from_pretrained(folder / name) for name, part in others.items()}
    for name, part in models.items():
        parts[name] = part.from_pretrained(folder / name, torch_dtype=dtype).eval()
    return CogVideoXPipeline(**parts)


__all__ = ["MiniConfig", "load_mini", "new_pipeline", "new_scheduler", "new_transformer", "save_mini"]
