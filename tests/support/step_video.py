"""A stand-in for Step-Video-T2V, which is not in diffusers: our own code in the layout of the published modules.

Names of modules and arguments, shapes and decorators are those that https://github.com/stepfun-ai/Step-Video-T2V
publishes; what they compute is written here. Text encoders and the VAE run on servers there: text is embeddings here,
and the VAE is a small one in the same layout (17 images to 3 latent frames, in chunks that do not see one another).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ConfigMixin, DiffusionPipeline, ModelMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from tiny_pipelines import randomise
from torch import Tensor, nn
from torch.nn import functional as F

CHUNK, LATENT_CHUNK, STRIDE = 17, 3, 16


class RMSNorm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight, 1e-6)


def rotated(x: Tensor, positions: list[int], split: list[int]) -> Tensor:
    """(batch, token, head, channel) turned by frame, row and column: the halves of each part are the pairs."""
    frames, rows, columns = (torch.arange(n) for n in positions)
    places = torch.cartesian_prod(frames, rows, columns).float()
    parts = []
    for axis, part in enumerate(x.split(split, dim=-1)):
        rates = 10_000.0 ** (-torch.arange(0, part.shape[-1], 2) / part.shape[-1])
        angles = (places[:, axis, None] * rates).repeat(1, 2)[None, :, None]
        first, second = part.chunk(2, dim=-1)
        angles = angles.to(part.device)
        parts.append(part * angles.cos() + torch.cat([-second, first], dim=-1) * angles.sin())
    return torch.cat(parts, dim=-1)


class Attention(nn.Module):
    """Holds its attention function as an attribute, chosen when it is built."""

    def attn_processor(self, attn_type: str) -> Any:
        return {"torch": self.torch_attn_func}[attn_type]

    def torch_attn_func(
        self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, causal: bool = False, **kwargs: Any
    ) -> Tensor:
        if attn_mask is not None and attn_mask.ndim == 3:
            attn_mask = attn_mask[:, None]
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, is_causal=causal).transpose(1, 2)


class SelfAttention(Attention):
    """Fused projection: the channels of a head are those of its query, its key and its value."""

    def __init__(self, hidden_dim: int, head_dim: int, attn_type: str = "torch") -> None:
        super().__init__()
        self.head_dim, self.n_heads = head_dim, hidden_dim // head_dim
        self.wqkv = nn.Linear(hidden_dim, 3 * hidden_dim, bias=False)
        self.wo = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.q_norm, self.k_norm = RMSNorm(head_dim), RMSNorm(head_dim)
        self.rope_ch_split = [head_dim // 2, head_dim // 4, head_dim // 4]
        self.core_attention = self.attn_processor(attn_type)

    def forward(
        self,
        x: Tensor,
        cu_seqlens: Any = None,
        max_seqlen: Any = None,
        rope_positions: Any = None,
        attn_mask: Any = None,
    ) -> Tensor:
        q, k, v = self.wqkv(x).unflatten(-1, (self.n_heads, 3 * self.head_dim)).split(self.head_dim, dim=-1)
        q, k = (
            rotated(norm(y), rope_positions, self.rope_ch_split) for norm, y in ((self.q_norm, q), (self.k_norm, k))
        )
        out = self.core_attention(q, k, v, cu_seqlens=cu_seqlens, max_seqlen=max_seqlen, attn_mask=attn_mask)
        return self.wo(out.flatten(2))


class CrossAttention(Attention):
    def __init__(self, hidden_dim: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim, self.n_heads = head_dim, hidden_dim // head_dim
        self.wq = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.wkv = nn.Linear(hidden_dim, 2 * hidden_dim, bias=False)
        self.wo = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.q_norm, self.k_norm = RMSNorm(head_dim), RMSNorm(head_dim)
        self.core_attention = self.attn_processor("torch")

    def forward(self, x: Tensor, encoder_hidden_states: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        q = self.wq(x).unflatten(-1, (self.n_heads, self.head_dim))
        k, v = self.wkv(encoder_hidden_states).unflatten(-1, (self.n_heads, 2 * self.head_dim)).chunk(2, dim=-1)
        return self.wo(self.core_attention(self.q_norm(q), self.k_norm(k), v, attn_mask=attn_mask).flatten(2))


class StepVideoTransformerBlock(nn.Module):
    def __init__(self, dim: int, attention_head_dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn1, self.attn2 = SelfAttention(dim, attention_head_dim), CrossAttention(dim, attention_head_dim)
        self.ff = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU("tanh"), nn.Linear(4 * dim, dim))
        self.scale_shift_table = nn.Parameter(torch.randn(6, dim))

    @torch.no_grad()
    def forward(
        self, q: Tensor, kv: Tensor, timestep: Tensor, attn_mask: Tensor | None = None, rope_positions: Any = None
    ) -> Tensor:
        modulation = self.scale_shift_table[None] + timestep.reshape(-1, 6, self.dim)
        shift, scale, gate, shift_ff, scale_ff, gate_ff = modulation.chunk(6, dim=1)
        q = q + gate * self.attn1(self.norm1(q) * (1 + scale) + shift, rope_positions=rope_positions)
        q = q + self.attn2(q, kv, attn_mask)
        return q + gate_ff * self.ff(self.norm2(q) * (1 + scale_ff) + shift_ff)


class PatchEmbed(nn.Module):
    def __init__(self, patch_size: int, in_channels: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, embed_dim, patch_size, patch_size)

    def forward(self, latent: Tensor) -> Tensor:
        return self.proj(latent).flatten(2).transpose(1, 2)


class AdaLayerNormSingle(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.embedder = nn.Sequential(nn.Linear(16, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.linear = nn.Linear(channels, 6 * channels)

    def forward(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        waves = get_timestep_embedding(timestep * 1000, 16, flip_sin_to_cos=True, downscale_freq_shift=0)
        embedded = self.embedder(waves.to(timestep.dtype))
        return self.linear(F.silu(embedded)), embedded


class StepVideoModel(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(
        self,
        num_attention_heads: int = 2,
        attention_head_dim: int = 16,
        in_channels: int = 4,
        out_channels: int = 4,
        num_layers: int = 2,
        patch_size: int = 1,
        caption_channels: tuple[int, int] = (24, 8),
    ) -> None:
        super().__init__()
        dim = num_attention_heads * attention_head_dim
        self.pos_embed = PatchEmbed(patch_size, in_channels, dim)
        self.transformer_blocks = nn.ModuleList(
            StepVideoTransformerBlock(dim, attention_head_dim) for _ in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(dim, elementwise_affine=False)
        self.scale_shift_table = nn.Parameter(torch.randn(2, dim))
        self.proj_out = nn.Linear(dim, patch_size**2 * out_channels)
        self.adaln_single = AdaLayerNormSingle(dim)
        self.clip_projection = nn.Linear(caption_channels[1], dim)
        self.caption_projection = nn.Linear(caption_channels[0], dim)

    @torch.inference_mode()
    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_2: Tensor,
        timestep: Tensor,
        added_cond_kwargs: Any = None,
        encoder_attention_mask: Tensor | None = None,
        fps: Any = None,
        return_dict: bool = True,
    ) -> Any:
        batch, frames, channels, height, width = hidden_states.shape
        patch = self.config.patch_size
        rows, columns = height // patch, width // patch
        tokens = self.pos_embed(hidden_states.flatten(0, 1)).unflatten(0, (batch, frames)).flatten(1, 2)
        modulation, embedded = self.adaln_single(timestep)
        text = self.caption_projection(encoder_hidden_states)
        text = torch.cat([self.clip_projection(encoder_hidden_states_2), text], dim=1)
        assert encoder_attention_mask is not None
        mask = encoder_attention_mask.bool()[:, None].expand(-1, tokens.shape[1], -1)
        for block in self.transformer_blocks:
            tokens = block(tokens, text, timestep=modulation, attn_mask=mask, rope_positions=[frames, rows, columns])
        shift, scale = (self.scale_shift_table[None] + embedded[:, None]).chunk(2, dim=1)
        tokens = self.proj_out(self.norm_out(tokens) * (1 + scale) + shift)
        grid = tokens.reshape(batch, frames, rows, columns, patch, patch, channels)
        output = grid.permute(0, 1, 6, 2, 4, 3, 5).reshape(batch, frames, channels, height, width)
        return {"x": output} if return_dict else output


class FlowMatchDiscreteScheduler(SchedulerMixin, ConfigMixin):
    """Flow matching with times from 0 (noise) to 1, shifted towards the noise."""

    order = 1

    @register_to_config
    def __init__(self, num_train_timesteps: int = 1000, reverse: bool = False, solver: str = "euler") -> None:
        self.set_timesteps(10)

    def set_timesteps(self, num_inference_steps: int, time_shift: float = 13.0, device: Any = None) -> None:
        noise = torch.linspace(1, 0, num_inference_steps + 1, device=device)
        noise = time_shift * noise / (1 + (time_shift - 1) * noise)
        self.sigmas = noise if self.config.reverse else 1 - noise
        self.timesteps = self.sigmas[:-1]
        self.index = 0

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, return_dict: bool = False) -> Tensor:
        self.index += 1
        change = self.sigmas[self.index] - self.sigmas[self.index - 1]
        return sample.float() + model_output.float() * change


class AutoencoderKL(nn.Module):
    """Linear maps of blocks of 16 x 16 pixels, in chunks of 17 images: the first, and two times eight."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.frame_len, self.latent_len = CHUNK, LATENT_CHUNK
        self.encoder = nn.Conv2d(3, 2 * channels, STRIDE, STRIDE)
        self.decoder = nn.ConvTranspose2d(channels, 3, STRIDE, STRIDE)

    def naive_encode(self, x: Tensor, is_init_image: bool = True) -> Tensor:
        kept = torch.stack([x[:, 0], x[:, 1:9].mean(1), x[:, 9:17].mean(1)], dim=1)
        with torch.inference_mode():
            return self.encoder(kept.flatten(0, 1)).unflatten(0, kept.shape[:2])

    @torch.inference_mode()
    def decode(self, z: Tensor) -> Tensor:
        images = self.decoder(z.flatten(0, 1)).unflatten(0, z.shape[:2])
        repeats = torch.tensor([1, 8, 8], device=z.device).repeat(z.shape[1] // LATENT_CHUNK)
        return images.repeat_interleave(repeats, dim=1)


class StepVideoPipeline(DiffusionPipeline):
    def __init__(self, transformer: StepVideoModel, scheduler: FlowMatchDiscreteScheduler) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler)
        self.vae_scale_factor_temporal, self.vae_scale_factor_spatial = 8, STRIDE
        self.vae: Any = lambda samples: samples  # a server

    def encode_prompt(self, prompt: Any, neg_magic: str = "", pos_magic: str = "") -> tuple[Tensor, Tensor, Tensor]:
        texts = [prompt + pos_magic, neg_magic]
        embedded = [torch.randn(1, 9, 24, generator=torch.Generator().manual_seed(len(text))) for text in texts]
        clip = [torch.randn(1, 2, 8, generator=torch.Generator().manual_seed(len(text))) for text in texts]
        return torch.cat(embedded), torch.cat(clip), torch.ones(2, 11)

    @torch.inference_mode()
    def __call__(
        self,
        prompt: Any = None,
        height: int = 544,
        width: int = 992,
        num_frames: int = 204,
        num_inference_steps: int = 50,
        guidance_scale: float = 9.0,
        time_shift: float = 13.0,
        neg_magic: str = "",
        pos_magic: str = "",
        num_videos_per_prompt: int = 1,
        generator: Any = None,
        latents: Tensor | None = None,
        output_type: str = "mp4",
        output_file_name: str = "",
        return_dict: bool = True,
    ) -> Any:
        batch = 1 if isinstance(prompt, str) else len(prompt)
        guided = guidance_scale > 1.0
        text, clip, mask = self.encode_prompt(prompt=prompt, neg_magic=neg_magic, pos_magic=pos_magic)
        dtype, device = self.transformer.dtype, next(self.transformer.parameters()).device
        text, clip, mask = (each.to(device) for each in (text, clip, mask))
        self.scheduler.set_timesteps(num_inference_steps=num_inference_steps, time_shift=time_shift, device="cpu")
        if latents is None:
            frames = max(num_frames // CHUNK * LATENT_CHUNK, 1)
            shape = (batch, frames, self.transformer.config.in_channels, height // STRIDE, width // STRIDE)
            latents = torch.randn(shape, generator=generator, dtype=torch.bfloat16)
        latents = latents.to(device, torch.bfloat16)
        for t in self.scheduler.timesteps.to(device):
            given = torch.cat([latents] * 2) if guided else latents
            given = given.to(dtype)
            prediction = self.transformer(
                hidden_states=given,
                timestep=t.expand(given.shape[0]).to(dtype),
                encoder_hidden_states=text.to(dtype),
                encoder_attention_mask=mask.to(dtype),
                encoder_hidden_states_2=clip.to(dtype),
                return_dict=False,
            )
            if guided:
                cond, uncond = prediction.chunk(2)
                prediction = uncond + guidance_scale * (cond - uncond)
            latents = self.scheduler.step(model_output=prediction, timestep=t, sample=latents)
        assert output_type == "latent", "the published pipeline decodes on a server and writes a file"
        return type("StepVideoPipelineOutput", (), {"video": latents})()


def step_video(**config: Any) -> StepVideoPipeline:
    """A tiny random one with its VAE in place of the server's."""
    transformer = StepVideoModel(**config)
    randomise(transformer, 61)
    pipeline = StepVideoPipeline(transformer.eval(), FlowMatchDiscreteScheduler())
    pipeline.vae = AutoencoderKL()
    randomise(pipeline.vae, 62)
    return pipeline
