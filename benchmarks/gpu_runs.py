"""Whole runs of a CogVideoX with random weights: sampled, recorded, swept, tracked, transferred, decoded, written.

Part of ``python -m benchmarks.gpu``. Costs do not depend on the weights, and none are needed; nor is the text encoder,
since text is given as embeddings.
"""

from __future__ import annotations

import ast
import functools
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel

import ditprobe as dp
from analyses.heads.sweep import sweep_heads
from benchmarks.recordings.writer import make_plan, writing
from generators.adapters.motion_tracks import MotionTracks
from generators.adapters.training.train import train_adapter
from store.layout import TokenLayout

FLOPS, DISK = 400e12, 1.5e9
"""Assumed for the estimate: operations a second of a GPU in bfloat16, and bytes a second of a disk."""
TEXT = 226
STEPS = 2


@dataclass(frozen=True)
class Model:
    """Configuration and size of a model.

    Attributes
    ----------
    name : str
    transformer, vae : keyword arguments of diffusers' classes that are not their defaults
    size : (height, width, images)
    layer : that is tracked, guided and transferred from
    """

    name: str
    transformer: dict[str, Any]
    vae: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int, int] = (480, 720, 49)
    layer: int = 17

    @property
    def layout(self) -> TokenLayout:
        """Layout of the tokens."""
        height, width, images = self.size
        return TokenLayout((images - 1) // 4 + 1, height // 16, width // 16, height, width, images, TEXT)

    @property
    def width(self) -> int:
        """Heads x channels."""
        return int(self.transformer["num_attention_heads"] * self.transformer["attention_head_dim"])

    @property
    def layers(self) -> int:
        """Number of layers."""
        return int(self.transformer["num_layers"])

    def layer_operations(self) -> float:
        """Operations of one layer, forward: its projections, feed-forward network and attention."""
        tokens = self.layout.video_tokens + TEXT
        return 24.0 * tokens * self.width**2 + 4.0 * tokens**2 * self.width

    def pipeline(self, device: torch.device, dtype: torch.dtype) -> Any:
        """A pipeline with random weights on a device."""
        torch.manual_seed(0)
        with torch.device(device):
            transformer = CogVideoXTransformer3DModel(**self.transformer)
            vae = AutoencoderKLCogVideoX(**_VAE | self.vae)
        scheduler = CogVideoXDDIMScheduler(
            prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True
        )
        transformer, vae = (part.eval().to(dtype) for part in (transformer, vae))
        return CogVideoXPipeline(None, None, vae, transformer, scheduler)


_VAE = {
    "down_block_types": ("CogVideoXDownBlock3D",) * 4,
    "up_block_types": ("CogVideoXUpBlock3D",) * 4,
    "block_out_channels": (128, 256, 256, 512),
    "latent_channels": 16,
    "layers_per_block": 3,
}
_SHAPE = {"attention_head_dim": 64, "text_embed_dim": 4096, "max_text_seq_length": TEXT}
MODELS = (
    Model("CogVideoX-2B", {"num_attention_heads": 30, "num_layers": 30, **_SHAPE}),
    Model(
        "CogVideoX-5B",
        {"num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True, **_SHAPE},
    ),
)


@dataclass(frozen=True)
class Measured:
    """Seconds of a run, and the most that it took of the GPU's memory beside the weights, NaN elsewhere."""

    seconds: float
    megabytes: float
    note: str = ""


NAMES = (
    "encode the clip",
    "decode the clip in one piece",
    "decode the clip in tiles",
    f"sample {STEPS} steps",
    f"sample {STEPS} steps with a probe of every layer",
    f"sample {STEPS} steps and record three layers",
    "sweep every layer at one step",
    "track 100 points over the clip",
    "guide one step by CAG",
    "transfer: one step with one iteration of DiTFlow",
    "masses of the heads of every layer at one step",
    "adapt: one training step of DeT with checkpointing",
    "disk: plain files past the page cache",
    "disk: RecordingWriter, filled in place",
)
AIMS = {
    NAMES[4]: "1.05 x plain",
    NAMES[5]: "1.05 x plain",
    NAMES[6]: f"1.3 x plain, that is {1.3 / STEPS:g} of {STEPS} steps",
    NAMES[-1]: "0.9 of the plain files",
}
"""By :data:`NAMES`."""


def estimates(model: Model, records: int = 24) -> dict[str, float]:
    """Seconds that each is expected to take, by :data:`NAMES`, from counted operations or bytes."""
    forward = model.layers * model.layer_operations()
    chunks = -(-(model.size[2] - 1) // (model.layout.frames - 1))
    encode, decode = _vae_operations(model)
    operations = (
        encode,
        decode,
        1.3 * decode,
        STEPS * forward,
        STEPS * forward,
        STEPS * forward,
        1.3 * forward,
        chunks * (model.layer + 1) * model.layer_operations() + 4 * encode,
        1.2 * forward + decode,
        forward * (1 + 4 * (model.layer + 1) / model.layers) + encode + decode,
        2 * forward,
        4 * forward,
    )
    written = 2 * records * 2 * model.layout.video_tokens * model.width
    return dict(zip(NAMES, (*(each / FLOPS for each in operations), written / DISK, written / DISK), strict=True))


def _vae_operations(model: Model) -> tuple[float, float]:
    """Operations of encoding and decoding a clip."""
    height, width, images = model.size
    pixels = height * width * ((images - 1) // 4 + 1)
    encode, decode = _operations_of_a_pixel(repr(sorted((_VAE | model.vae).items())))
    return encode * pixels, decode * pixels


@functools.cache
def _operations_of_a_pixel(config: str) -> tuple[float, float]:
    """Operations for a pixel and latent frame, counted on the meta device with a small clip."""
    from torch.utils.flop_counter import FlopCounterMode

    frames, side = 3, 64
    with torch.device("meta"):
        vae = AutoencoderKLCogVideoX(**dict(ast.literal_eval(config))).eval()
        shown = torch.empty(1, 3, 4 * frames - 3, side, side)
        latents = torch.empty(1, vae.config.latent_channels, frames, side // 8, side // 8)
    found = []
    with torch.no_grad():
        for call in (lambda: vae.encode(shown), lambda: vae.decode(latents)):
            with FlopCounterMode(display=False) as counter:
                call()
            found.append(counter.get_total_flops() / (frames * side**2))
    return found[0], found[1]


def measured(
    model: Model, device: torch.device, dtype: torch.dtype, *, records: int = 24, folder: Path | None = None
) -> dict[str, Measured]:
    """Each of :data:`NAMES` once, after the first steps of a sampling have warmed up the device.

    Parameters
    ----------
    model, device, dtype : what is run, and where
    records : that are written for the figures of the disk
    folder : on the disk to measure
    """
    backbone = dp.load_backbone(model.pipeline(device, dtype))
    found: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        runs = dict(_runs(model, backbone, Path(name)))
        _timed(runs[NAMES[3]], device)
        for what, call in runs.items():
            found[what] = _timed(call, device)
            print(f"{model.name}: {what}: {found[what].seconds:.2f} s {found[what].note}", file=sys.stderr, flush=True)
    del backbone, runs, call
    found |= _disk(model, records, folder)
    return found


def _timed(call: Callable[[], object], device: torch.device) -> Measured:
    on_gpu = device.type == "cuda"
    before = 0
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    began = time.perf_counter()
    try:
        call()
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return Measured(np.nan, np.nan, "does not fit")
    except Exception as error:  # what was measured before, and what comes after, is not lost
        traceback.print_exc()
        return Measured(np.nan, np.nan, f"failed: {type(error).__name__}")
    if on_gpu:
        torch.cuda.synchronize(device)
    took = time.perf_counter() - began
    return Measured(took, (torch.cuda.max_memory_allocated() - before) / 1e6 if on_gpu else np.nan)


def _runs(model: Model, backbone: dp.Backbone, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    height, width, images = model.size
    text = torch.zeros(1, TEXT, backbone.pipeline.transformer.config.text_embed_dim)
    given: dict[str, Any] = {
        "prompt_embeds": text.to(backbone.device, backbone.dtype),
        "guidance_scale": 1.0,
    }
    size: dict[str, Any] = {"height": height, "width": width, "images": images}
    part: dict[str, Any] = {"size": (height, width), "conditioning": given, "steps": 50}
    clip = _clip(model)
    points = np.stack([np.zeros(100), *np.random.default_rng(0).uniform(8, min(height, width) - 8, (2, 100))], 1)
    latents = backbone.encode(clip)
    every = dp.Selection("all", "all")
    three = dp.Selection("all", sorted({model.layer // 2, model.layer, model.layers - 1}))

    def decode(tiles: bool) -> object:
        vae = backbone.pipeline.vae
        (vae.enable_tiling if tiles else vae.disable_tiling)()
        try:
            return backbone.decode(latents)
        finally:
            vae.disable_tiling()

    def plain() -> object:
        return backbone.pipeline(
            **given, height=height, width=width, num_frames=images, num_inference_steps=STEPS, output_type="latent"
        )

    def probed() -> object:
        return dp.run_prompt(
            backbone, None, every, lambda capture: None, want_clip=False, conditioning=given, steps=STEPS, **size
        )

    def recorded() -> object:
        at = {"size": (height, width), "images": images}
        return dp.record(
            backbone, None, three, folder / "run.zarr", conditioning=given, steps=STEPS, limit_bytes=None, **at
        )

    def adapted() -> object:
        training = dp.Training(steps=1, gradient_checkpointing=True)
        assert clip.tracks is not None
        assert clip.visibility is not None
        adapter = dp.DeT(training=training).new_adapter(backbone, backbone.default_size._replace(**size))
        tracks = MotionTracks(clip.tracks, clip.visibility, "true")
        return train_adapter(adapter, backbone, clip, training, tracks=tracks, conditioning=given)

    guided = dp.CrossAttentionGuidance(layers=[model.layer])
    ditflow = dp.DiTFlow(layers=[model.layer], iterations=1)
    calls = (
        lambda: backbone.encode(clip),
        lambda: decode(False),
        lambda: decode(True),
        plain,
        probed,
        recorded,
        lambda: dp.sweep(backbone, clip, dp.Selection([-1], "all"), images=images, **part),
        lambda: dp.track_points(clip, points, backbone, layer=model.layer, step=-1, **part),
        lambda: dp.sample(backbone, None, guided, steps=1, conditioning=given, **size),
        lambda: dp.transfer_motion(backbone, clip, None, method=ditflow, steps=1, conditioning=given, **size),
        lambda: sweep_heads(backbone, {"clip": clip}, dp.Selection([-1], "all"), images=images, **part),
        adapted,
    )
    yield from zip(NAMES, calls, strict=False)


def _clip(model: Model) -> dp.Clip:
    """Noise that moves, with a hundred tracks."""
    height, width, images = model.size
    drawn = np.random.default_rng(1)
    still = drawn.integers(0, 255, (height, width, 3), np.uint8)
    shown = np.stack([np.roll(still, 2 * image, axis=1) for image in range(images)])
    start = drawn.uniform(8, [width / 2, height - 8], (100, 2))
    moved = start + 2 * np.arange(images)[:, None, None] * [1.0, 0.0]
    return dp.Clip(shown, fps=8, prompt="", tracks=moved, visibility=(moved < [width, height]).all(-1))


def _disk(model: Model, records: int, folder: Path | None) -> dict[str, Measured]:
    heads = int(model.transformer["num_attention_heads"])
    plan = make_plan(records, heads, model.layout)
    values = np.random.default_rng(0).normal(size=plan.arrays[0].record_shape).astype(np.float16)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        ways = ("plain files, O_DIRECT + fsync", "RecordingWriter, filled in place")
        found = writing(Path(name), plan, values, 3, only=ways)
    least = [min(each.clock) for each in found.values()]
    return {
        what: Measured(took, np.nan, f"{plan.nbytes / took / 1e6:.0f} MB/s")
        for what, took in zip(NAMES[-len(least) :], least, strict=True)
    }


def table(found: dict[str, Measured]) -> str:
    """As Markdown for the docs."""
    plain = found[NAMES[3]].seconds
    lines = ["| | s | of plain sampling | extra MB | | aim |", "|---|---:|---:|---:|---|---|"]
    for name, each in found.items():
        ratio = f"{each.seconds / plain:.3f}" if name.startswith(("sample", "sweep")) else ""
        aim = AIMS.get(name, "")
        lines.append(f"| {name} | {each.seconds:.3f} | {ratio} | {each.megabytes:.0f} | {each.note} | {aim} |")
    return "\n".join(lines)
