"""Plans from a configuration alone: published models beside arithmetic by hand, memory beside what is counted."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import diffusers
import pytest
import tiny_pipelines as tiny
import torch
from typer.testing import Result

from analyses.kernels.expected_cells import ExpectedCells
from ditprobe.planning.memory import flow_bytes
from ditprobe.planning.model_plan import find_facts, plan_model, published_models
from probe import load_backbone
from probe.backbones.geometry import Size
from probe.backbones.layers import LayerInfo
from probe.families.published import find_card, model_cards
from probe.loading.model_facts import facts_of_backbone, meta_transformer
from probe.loading.planning import on_meta
from probe.loading.vae_memory import peak_bytes
from store import Selection
from store.errors import BackboneNotFoundError, InvalidInputError
from store.layout import TokenLayout
from store.plan import format_bytes

Run = Callable[..., Result]
ROOT = Path(__file__).parents[3]
planned = functools.cache(plan_model)


@dataclass(frozen=True)
class ByHand:
    """A published model at its published size, worked out on paper from its strides and patches."""

    layers: int
    heads: int
    channels: int
    cells: tuple[int, int, int]
    tokens: int  # of the video and of the text
    capture: int  # bytes: 2 x tokens x heads x channels x 2
    billions: float


# Cells: frames (images - 1) / stride + 1 (/ 2 where a token joins two, rounded up), rows and columns side / stride /
# patch, rounded down where a pipeline rounds the latents down.
BY_HAND = {
    # 480 / 16 = 30, 720 / 16 = 45, 48 / 4 + 1 = 13; 17,550 + 226; 2 x 17,776 x 1,920 x 2
    "THUDM/CogVideoX-2b": ByHand(30, 30, 64, (13, 30, 45), 17_776, 136_519_680, 1.69),
    # 2 x 17,776 x 3,072 x 2
    "THUDM/CogVideoX-5b": ByHand(42, 48, 64, (13, 30, 45), 17_776, 218_431_488, 5.57),
    "THUDM/CogVideoX-5b-I2V": ByHand(42, 48, 64, (13, 30, 45), 17_776, 218_431_488, 5.57),
    # 768 / 16 = 48, 1360 / 16 = 85, 80 / 4 + 1 = 21 -> 11; 44,880 + 226; 2 x 45,106 x 3,072 x 2
    "THUDM/CogVideoX1.5-5B": ByHand(42, 48, 64, (11, 48, 85), 45_106, 554_262_528, 5.57),
    # 480 / 16 = 30, 832 / 16 = 52, 80 / 4 + 1 = 21; 2 x 32,760 x 1,536 x 2
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": ByHand(30, 12, 128, (21, 30, 52), 32_760, 201_277_440, 1.42),
    # 2 x 32,760 x 5,120 x 2
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": ByHand(40, 40, 128, (21, 30, 52), 32_760, 670_924_800, 14.29),
    "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers": ByHand(40, 40, 128, (21, 30, 52), 32_760, 670_924_800, 16.39),
    # two transformers
    "Wan-AI/Wan2.2-T2V-A14B-Diffusers": ByHand(40, 40, 128, (21, 30, 52), 32_760, 670_924_800, 28.58),
    # 704 / 32 = 22, 1280 / 32 = 40, 120 / 4 + 1 = 31; 2 x 27,280 x 3,072 x 2
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers": ByHand(30, 24, 128, (31, 22, 40), 27_280, 335_216_640, 5.00),
    # 720 / 16 = 45, 1280 / 16 = 80, 128 / 4 + 1 = 33; 118,800 + 256; 2 x 119,056 x 3,072 x 2; 20 + 40 blocks
    "hunyuanvideo-community/HunyuanVideo": ByHand(60, 24, 128, (33, 45, 80), 119_056, 1_462_960_128, 12.82),
    # 480 / 16 = 30, 848 / 16 = 53, 120 / 4 + 1 = 31; 49,290 + 1,985; 2 x 51,275 x 2,048 x 2
    "hunyuanvideo-community/HunyuanVideo-1.5-480p_t2v": ByHand(54, 16, 128, (31, 30, 53), 51_275, 420_044_800, 8.33),
    # 512 / 32 = 16, 704 / 32 = 22, 160 / 8 + 1 = 21; 2 x 7,392 x 2,048 x 2
    "Lightricks/LTX-Video": ByHand(28, 32, 64, (21, 16, 22), 7_392, 60_555_264, 1.92),
    # 480 / 16 = 30, 848 / 16 = 53, 162 / 6 + 1 = 28; 44,520 + 256; 2 x 44,776 x 3,072 x 2
    "genmo/mochi-1-preview": ByHand(48, 24, 128, (28, 30, 53), 44_776, 550_207_488, 10.03),
    # 720 / 16 = 45, 1280 / 16 = 80, 120 / 4 + 1 = 31; 2 x 111,600 x 5,120 x 2
    "Skywork/SkyReels-V2-T2V-14B-720P-Diffusers": ByHand(40, 40, 128, (31, 45, 80), 111_600, 2_285_568_000, 14.29),
    # 704 / 16 = 44, 1280 / 16 = 80, 120 / 8 + 1 = 16; 2 x 56,320 x 4,096 x 2
    "nvidia/Cosmos-1.0-Diffusion-7B-Text2World": ByHand(28, 32, 128, (16, 44, 80), 56_320, 922_746_880, 7.24),
    # 704 / 16 = 44, 1280 / 16 = 80, 92 / 4 + 1 = 24; 2 x 84,480 x 2,048 x 2
    "nvidia/Cosmos-Predict2-2B-Video2World": ByHand(28, 16, 128, (24, 44, 80), 84_480, 692_060_160, 1.96),
    # 2 x 84,480 x 5,120 x 2
    "nvidia/Cosmos-Predict2-14B-Video2World": ByHand(36, 40, 128, (24, 44, 80), 84_480, 1_730_150_400, 14.27),
    # 1,792 / 64 = 28 heads; 512 / 16 = 32, 768 / 16 = 48, 120 / 4 + 1 = 31; 2 x 47,616 x 1,792 x 2
    "kandinskylab/Kandinsky-5.0-T2V-Lite-sft-5s-Diffusers": ByHand(32, 28, 64, (31, 32, 48), 47_616, 341_311_488, 2.01),
    # 87 / 4 + 1 = 22; 2 x 79,200 x 2,304 x 2
    "rhymes-ai/Allegro": ByHand(32, 24, 96, (22, 45, 80), 79_200, 729_907_200, 2.77),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_published_models_are_what_arithmetic_says(name: str) -> None:
    expected, plan = BY_HAND[name], planned(name)
    first, layout = plan.facts.layers[0], plan.layout
    assert (len(plan.facts.layers), first.heads, first.channels) == (expected.layers, expected.heads, expected.channels)
    assert (layout.frames, layout.height, layout.width) == expected.cells
    assert layout.video_tokens + layout.text_tokens == expected.tokens
    assert plan.capture_bytes == expected.capture
    assert plan.facts.parameters / 1e9 == pytest.approx(expected.billions, abs=0.006)
    assert plan.weight_bytes == 2 * plan.facts.parameters
    whole = plan.selection(Selection([-1], "all"))
    assert whole.nbytes == expected.layers * expected.capture  # float16, as the captures of these models


def test_the_table_of_the_documents_is_what_the_plans_say() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|(.*)\|$", (ROOT / "docs/models.md").read_text(encoding="utf-8"), re.MULTILINE)
    table = {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}
    assert set(BY_HAND) <= set(table)
    assert set(table) == set(published_models())
    for name, cells in table.items():
        plan = planned(name)
        layout, first = plan.layout, plan.facts.layers[0]
        assert cells[:4] == [
            f"{layout.pixel_height} x {layout.pixel_width} x {layout.images}",
            f"{len(plan.facts.layers)} x {first.heads} x {first.channels}",
            f"{layout.frames} x {layout.height} x {layout.width}",
            f"{layout.video_tokens + layout.text_tokens:,}",
        ], name
        memory = (plan.weight_bytes, plan.capture_bytes, plan.sweep_bytes, plan.tracking_bytes, plan.heads_bytes)
        optimising = [plan.optimising_bytes(checkpointing=again) for again in (False, True)]
        more = (*plan.recorder_bytes, plan.transfer_bytes, *optimising, plan.guidance_bytes, plan.injection_bytes)
        assert cells[4:16] == [format_bytes(count) for count in (*memory, *more)], name


def test_other_sizes_and_bad_ones() -> None:
    plan = plan_model("Wan-AI/Wan2.1-T2V-14B-Diffusers", height=720, width=1280, images=81)
    assert (plan.layout.frames, plan.layout.height, plan.layout.width) == (21, 45, 80)
    assert plan.layout.video_tokens == 75_600
    with pytest.raises(InvalidInputError, match="does not take height 721: it must be a multiple of 16 px"):
        plan_model("Wan-AI/Wan2.1-T2V-14B-Diffusers", size=(721, 1280))
    with pytest.raises(BackboneNotFoundError, match="Published configurations are known of THUDM/CogVideoX-2b, "):
        plan_model("nobody/nothing", local_files_only=True)


@pytest.mark.parametrize(
    ("heads", "channels", "frames", "dtype"), [(30, 64, 3, torch.float32), (40, 64, 4, torch.float16)]
)
@pytest.mark.parametrize("backward", [False, True])
def test_the_memory_of_a_flow_is_what_is_counted(
    heads: int, channels: int, frames: int, dtype: torch.dtype, backward: bool
) -> None:
    rows, columns = 30, 45
    tokens = [
        torch.empty(heads, frames, rows * columns, channels, dtype=dtype, device="meta", requires_grad=backward)
        for _ in range(2)
    ]
    cells = torch.empty(rows * columns, 2, device="meta")

    def flow() -> None:
        found = ExpectedCells.apply(*tokens, cells, 1.0)
        if backward:
            (found - cells).sum().backward()

    layout = TokenLayout(frames, rows, columns, 16 * rows, 16 * columns, 4 * (frames - 1) + 1)
    expected = flow_bytes(LayerInfo(0, "", heads, channels), layout, dtype.itemsize, backward=backward)
    assert peak_bytes(flow) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("make", [tiny.cogvideox, tiny.wan, tiny.hunyuan_video])
def test_a_folder_is_planned_as_the_loaded_model_is(make: Callable[[], object], tmp_path: Path) -> None:
    make().save_pretrained(tmp_path / "saved")  # type: ignore[attr-defined]
    loaded = facts_of_backbone(load_backbone(tmp_path / "saved", device="cpu"))
    for weights in tmp_path.rglob("*.safetensors"):
        weights.unlink()
    planned = find_facts(tmp_path / "saved", device="cpu")
    for name in ("layers", "parameters", "patch", "strides", "text_tokens", "size", "dtype", "denoisers"):
        assert getattr(planned, name) == getattr(loaded, name), name


@pytest.mark.parametrize("name", ["THUDM/CogVideoX-2b", "THUDM/CogVideoX1.5-5B", "Wan-AI/Wan2.2-TI2V-5B-Diffusers"])
def test_a_card_says_what_the_backbone_of_its_family_says(name: str) -> None:
    card = find_card(name)
    assert card is not None
    assert card.released is not None
    facts, size = find_facts(name), card.released.size
    transformer = meta_transformer(card)
    assert facts.vae is not None
    kind, config = facts.vae
    vae = on_meta(kind, config, torch.bfloat16)
    scheduler = diffusers.CogVideoXDDIMScheduler() if "Cog" in name else diffusers.UniPCMultistepScheduler()
    parts = {"transformer": transformer, "vae": vae, "scheduler": scheduler, "text_encoder": None, "tokenizer": None}
    backbone = load_backbone(getattr(diffusers, card.released.pipeline)(**parts))
    ours, theirs = facts.layout(Size(*size)), backbone.layout(*size)
    for field in ("frames", "height", "width", "text_tokens", "video_tokens"):
        assert getattr(ours, field) == getattr(theirs, field)
    assert facts.layers == backbone.layers
    assert facts.strides == backbone.strides


def test_every_card_with_a_configuration_can_be_planned() -> None:
    for card in model_cards():
        if card.released is not None:
            assert planned(card.name).transfer_bytes > planned(card.name).flow_bytes > 0


def test_the_command_prints_the_plan(run: Run) -> None:
    words = ("info", "THUDM/CogVideoX-2b", "--plan", "--height", "480", "--width", "720", "--images", "49")
    printed = run(*words, "--layers", "17", "--at", "-1").output
    for line in (
        "  clip        480 x 720 px (height x width), 49 images",
        "  layers      30 layers of 30 heads x 64 channels",
        "  cells       13 frames of 30 x 45 cells, 16 x 16 px each",
        "  tokens      17776: 17550 of the video, at most 226 of the text",
        "  capture     136.5 MB of one layer, step and branch in float16",
        "  recording   136.5 MB of 1 layer at 1 step, 1 branch, in float16",
    ):
        assert line in printed
    assert re.search(r"  decoding    \d+\.\d GB in one piece in float16", printed)
    assert "--height applies to --plan" in run("info", "mini", "--height", "40", code=2).output
    assert "6 layers of 4 heads x 32 channels" in run("info", "mini", "--plan", "--size", "80x40").output
