"""Tiny random pipelines of every family: full diffusers pipelines, no downloads, 3 frames of 5 x 7 cells.

80 x 112 px and 9 images give 3 latent frames of 10 x 14, with patches of 2 that is 5 x 7 cells.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)

SIZE = {"height": 80, "width": 112, "images": 9}
TEXT = 11


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Random weights everywhere: gates and norms that start at 0 or 1 would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            spread = 0.5 / parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 0.3
            centre = 1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.0  # the scale of a norm
            parameter.copy_(centre + torch.randn(parameter.shape, generator=generator) * spread)


def cogvideox_vae() -> AutoencoderKLCogVideoX:
    vae = AutoencoderKLCogVideoX(
        in_channels=3,
        out_channels=3,
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    randomise(vae, 1)
    return vae.eval()


def cogvideox(**overrides: Any) -> CogVideoXPipeline:
    image_to_video = overrides.pop("image_to_video", False)
    seed = overrides.pop("seed", 2)
    kind = overrides.pop("kind", CogVideoXImageToVideoPipeline if image_to_video else CogVideoXPipeline)
    config: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": 8 if image_to_video else 4,
        "out_channels": 4,
        "time_embed_dim": 2,
        "text_embed_dim": 32,
        "num_layers": 3,
        "sample_height": 10,
        "sample_width": 14,
        "sample_frames": 9,
        "max_text_seq_length": TEXT,
        "use_rotary_positional_embeddings": True,
        **overrides,
    }
    transformer = CogVideoXTransformer3DModel(**config)
    randomise(transformer, seed)
    scheduler = CogVideoXDDIMScheduler(
        prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True
    )
    return kind(None, None, cogvideox_vae(), transformer.eval(), scheduler)


def wan_vae() -> AutoencoderKLWan:
    vae = AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, attn_scales=[])
    randomise(vae, 3)
    return vae.eval()


def wan_transformer(seed: int = 4, **overrides: Any) -> WanTransformer3DModel:
    config: dict[str, Any] = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 16,
        "out_channels": 16,
        "text_dim": 32,
        "freq_dim": 16,
        "ffn_dim": 24,
        "num_layers": 2,
        "rope_max_seq_len": 32,
        **overrides,
    }
    transformer = WanTransformer3DModel(**config)
    randomise(transformer, seed)
    return transformer.eval()


def wan(**overrides: Any) -> WanPipeline:
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    parts: dict[str, Any] = {"vae": wan_vae(), "scheduler": scheduler, "transformer": wan_transformer(), **overrides}
    return WanPipeline(tokenizer=None, text_encoder=None, **parts)


def hunyuan_vae() -> AutoencoderKLHunyuanVideo:
    vae = AutoencoderKLHunyuanVideo(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        mid_block_add_attention=True,
    )
    randomise(vae, 5)
    return vae.eval()


def hunyuan_video(**overrides: Any) -> HunyuanVideoPipeline:
    config: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 10,
        "num_layers": 1,
        "num_single_layers": 1,
        "num_refiner_layers": 1,
        "patch_size": 2,
        "patch_size_t": 1,
        "guidance_embeds": True,
        "text_embed_dim": 16,
        "pooled_projection_dim": 8,
        "rope_axes_dim": (2, 4, 4),
        **overrides,
    }
    transformer = HunyuanVideoTransformer3DModel(**config)
    randomise(transformer, 6)
    return HunyuanVideoPipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=transformer.eval(),
        vae=hunyuan_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=None,
        tokenizer_2=None,
    )


def embeds(tokens: int, channels: int, seed: int, *, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, tokens, channels, generator=torch.Generator().manual_seed(seed))


def hunyuan_conditioning(
    text_counts: tuple[int, ...], prompts: tuple[int, ...] = (0,), *, negative: bool = True
) -> dict[str, Any]:
    """Arguments of HunyuanVideo for prompts of these numbers, and the same negative prompt, counted last, for each."""

    def mask(count: int) -> torch.Tensor:
        return (torch.arange(TEXT) < count).float()[None]

    batch = len(prompts)
    chosen = {
        "prompt_embeds": torch.cat([embeds(TEXT, 16, n) for n in prompts]),
        "pooled_prompt_embeds": torch.cat([embeds(1, 8, n)[0] for n in prompts]),
        "prompt_attention_mask": torch.cat([mask(text_counts[n]) for n in prompts]),
    }
    if negative:
        chosen["negative_prompt_embeds"] = embeds(TEXT, 16, 9).expand(batch, -1, -1)
        chosen["negative_pooled_prompt_embeds"] = embeds(1, 8, 9)[0].expand(batch, -1)
        chosen["negative_prompt_attention_mask"] = mask(text_counts[2]).expand(batch, -1)
    return chosen
