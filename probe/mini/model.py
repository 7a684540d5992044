"""The mini backbones: CogVideoX pipelines small enough to train on a laptop, with weights in the package."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel
from diffusers.schedulers import SchedulerMixin
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
from transformers import CLIPTextModel
from transformers.utils import logging as transformers_logging

from probe.mini.codec import PixelCodec
from probe.mini.text import SceneTokenizer, new_text_encoder, new_tokenizer
from store.errors import BackboneNotFoundError
from store.files.damaged import damage_as, shown
from store.files.pipeline_json import read_json
from store.text import listed

WEIGHTS = Path(__file__).parent / "weights"
BUNDLED = {name: WEIGHTS / name for name in ("mini", "mini-rope", "mini@1", "mini-rope@1")}
"""Folders of the weights in the package: added sinusoidal positions, rotary ones, and the first weights of either."""

_CONFIG = {"scheduler": "scheduler_config.json"}
_POSITIONS = ("sample_frames", "sample_height", "sample_width", "num_attention_heads", "attention_head_dim")
_MOST_LAYERS, _MOST, _MOST_POSITIONS = 1000, 1 << 20, 1 << 30
_PARTS = ("tokenizer", "text_encoder", "vae", "transformer", "scheduler")


@dataclass(frozen=True)
class MiniConfig:
    """Sizes of a mini backbone. Images are pixels; a cell is 4 x 4 pixels (2 x 2 codec, patch 2).

    ``rotary`` chooses rotary positions (as CogVideoX-5B), otherwise sinusoids are added to the tokens (as 2B). With
    ``slots`` each part of a prompt has its place among the tokens (:class:`probe.mini.text.SceneTokenizer`).
    """

    images: int = 6
    height: int = 40
    width: int = 40
    layers: int = 6
    heads: int = 4
    channels: int = 32
    text_tokens: int = 40
    text_channels: int = 128
    rotary: bool = False
    slots: bool = True


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
    """A randomly initialised transformer of diffusers' own CogVideoX class."""
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
        spatial_interpolation_scale=1.0,
        use_rotary_positional_embeddings=config.rotary,
    )


def new_pipeline(config: MiniConfig | None = None) -> CogVideoXPipeline:
    """An untrained mini pipeline, for training and for tests.

    Examples
    --------
    >>> new_pipeline(MiniConfig(layers=1)).transformer.config.num_layers
    1
    """
    config = config or MiniConfig()
    tokenizer = new_tokenizer(config.text_tokens, slots=config.slots)
    return CogVideoXPipeline(
        tokenizer=tokenizer,
        text_encoder=new_text_encoder(len(tokenizer), config.text_channels, config.text_tokens),
        vae=PixelCodec(),
        transformer=new_transformer(config),
        scheduler=new_scheduler(),
    )


def save_mini(pipeline: Any, folder: str | Path) -> None:
    """Write a mini pipeline as diffusers does: ``model_index.json`` and one folder for each of the five components.

    :func:`load_mini` and :func:`probe.load_backbone` read it, and so does ``CogVideoXPipeline.from_pretrained`` once
    :mod:`probe.mini`, which has the classes of the codec and the tokenizer, is imported.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_mini(new_pipeline(MiniConfig(layers=1)), folder)
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['model_index.json', 'scheduler', 'text_encoder', 'tokenizer', 'transformer', 'vae']
    """
    with _without_bars():
        pipeline.save_pretrained(folder)


def load_mini(name_or_folder: str | Path = "mini", *, dtype: torch.dtype = torch.float32) -> CogVideoXPipeline:
    """A mini backbone as a diffusers pipeline, without a network.

    Parameters
    ----------
    name_or_folder : "mini", "mini-rope", "mini@1" or "mini-rope@1", or a folder that :func:`save_mini` wrote
        "@1" has the first weights of that backbone.
    dtype : torch.dtype
        Data type of the transformer, the text encoder and the codec.

    Raises
    ------
    BackboneNotFoundError
        When the folder does not hold the five components, or one is damaged.

    Examples
    --------
    >>> type(load_mini().transformer).__name__
    'CogVideoXTransformer3DModel'
    """
    bundled = BUNDLED.get(name_or_folder) if isinstance(name_or_folder, str) else None
    folder = bundled or Path(name_or_folder)
    missing = [name for name in _PARTS if not (folder / name).is_dir()]
    if missing:
        raise BackboneNotFoundError(
            f"no mini backbone at {folder}: {', '.join(missing)} missing. Bundled are {listed(list(BUNDLED))}; train "
            "another with python -m probe.mini.training."
        )
    remedy = "Save or copy it again."
    with damage_as(BackboneNotFoundError, f"the mini backbone {folder} is damaged", remedy), _without_bars():
        scheduler = CogVideoXDDIMScheduler.load_config(folder / "scheduler")
        for part in ("transformer", "text_encoder", "scheduler"):
            _check_sizes(read_json(folder / part / _CONFIG.get(part, "config.json")))
        text_encoder: Any = CLIPTextModel.from_pretrained(folder / "text_encoder", use_safetensors=True)
        # cast afterwards: transformers 4 and 5 call the argument for the data type differently
        return CogVideoXPipeline(
            tokenizer=SceneTokenizer.from_pretrained(folder / "tokenizer"),
            text_encoder=text_encoder.to(dtype).eval(),
            vae=_loaded(PixelCodec, folder / "vae", dtype),
            transformer=_loaded(CogVideoXTransformer3DModel, folder / "transformer", dtype),
            scheduler=_scheduler_class(scheduler["_class_name"]).from_config(scheduler),
        )


def _check_sizes(config: dict[str, Any]) -> None:
    """Reject sizes that would fill the memory, or take for ever, before the weights show that they are not theirs."""
    sizes = {name: value for name, value in config.items() if isinstance(value, int)}
    layers = [sizes.get(name, 0) for name in ("num_layers", "num_hidden_layers")]
    if max(layers) > _MOST_LAYERS or max(sizes.values(), default=0) > _MOST:
        raise ValueError("its configuration has a size that no mini backbone has")
    if math.prod(sizes.get(name, 1) for name in _POSITIONS) > _MOST_POSITIONS:
        raise ValueError("its configuration has more positions than a mini backbone")


def _scheduler_class(name: str) -> type[SchedulerMixin]:
    kind = getattr(diffusers, name)
    if not issubclass(kind, SchedulerMixin):
        raise ValueError(f"{shown(name)} is not a scheduler")
    return kind


def _loaded(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    part = kind.from_pretrained(folder, torch_dtype=dtype, use_safetensors=True).eval()
    part.register_to_config(_name_or_path=folder.parent.name)  # or each copy would name the folder it came from
    return part


@contextmanager
def _without_bars() -> Iterator[None]:
    """Without the progress bars of transformers, which also switches those of the hub; both are put back."""
    if not transformers_logging.is_progress_bar_enabled():
        yield
        return
    hub_hidden = are_progress_bars_disabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.enable_progress_bar()
        if hub_hidden:
            disable_progress_bars()


__all__ = ["BUNDLED", "MiniConfig", "load_mini", "new_pipeline", "new_scheduler", "new_transformer", "save_mini"]
