"""ConsisID: CogVideoX's contract, with and without a face."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from contract import FamilyContract
from diffusers import CogVideoXDDIMScheduler, ConsisIDPipeline, ConsisIDTransformer3DModel
from PIL import Image

from probe import Capture, load_backbone, run_clip
from store.clips.clip import Clip
from store.selection import Selection

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 112, 3), np.uint8))


def consisid(**overrides: Any) -> ConsisIDPipeline:
    transformer = ConsisIDTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=8,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=32,
        num_layers=2,
        sample_height=10,
        sample_width=14,
        sample_frames=9,
        max_text_seq_length=tiny.TEXT,
        use_rotary_positional_embeddings=True,
        **overrides,
    )
    tiny.randomise(transformer, 5)
    scheduler = CogVideoXDDIMScheduler(
        prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True
    )
    return ConsisIDPipeline(None, None, tiny.cogvideox_vae(), transformer.eval(), scheduler)


class TestConsisID(FamilyContract):
    layer_names = ("transformer_blocks.0.attn1", "transformer_blocks.1.attn1")
    channels = 16
    text_counts = (tiny.TEXT,) * 3

    @classmethod
    def make_pipeline(cls) -> Any:
        return consisid()

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        chosen: dict[str, Any] = {"prompt_embeds": torch.cat([tiny.embeds(tiny.TEXT, 32, n) for n in prompts])}
        if negative:
            chosen["negative_prompt_embeds"] = tiny.embeds(tiny.TEXT, 32, 9).expand(len(prompts), -1, -1)
        return {**chosen, "image": IMAGE}

    @pytest.mark.skip("the pipeline draws the latents of each image of a batch from one generator")
    def test_a_batch_of_prompts_gives_a_capture_each(self) -> None: ...


def test_a_face_changes_the_layers_after_it() -> None:
    face = {"LFE_id_dim": 8, "LFE_vit_dim": 8, "LFE_depth": 5, "LFE_dim_head": 4, "LFE_num_heads": 2}
    face |= {"LFE_num_id_token": 2, "LFE_num_querie": 4, "LFE_output_dim": 21, "LFE_ff_mult": 1}
    face |= {"cross_attn_dim_head": 4, "cross_attn_num_heads": 2, "cross_attn_interval": 1}
    backbone = load_backbone(consisid(is_train_face=True, **face))
    clip = Clip(np.random.default_rng(1).integers(0, 255, (9, 80, 112, 3), np.uint8), fps=8)
    found: list[Capture] = []
    for seed in (0, 1):
        identity = {
            "id_cond": torch.randn(1, 8, generator=torch.Generator().manual_seed(seed)),
            "id_vit_hidden": [tiny.embeds(3, 8, seed) for _ in range(5)],
        }
        given = {**TestConsisID.conditioning(), **identity}
        run_clip(backbone, clip, Selection([-1], "all"), found.append, steps=2, conditioning=given)
    first, second = found[0].query - found[2].query, found[1].query - found[3].query
    assert first.abs().max() == 0
    assert second.abs().max() > 1e-4
