"""Loading as people load: precision, offload, device maps, quantization, tiles, variants and families."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import diffusers
import pytest
import tiny_pipelines as tiny
import torch
from diffusers import AutoencoderKLWan, DiffusionPipeline

from probe import load_backbone, run_clip
from probe.execution.compiled import unwrapped
from probe.families import Wan, register_family
from probe.families.published import find_card, model_cards
from probe.families.registry import REGISTRY
from probe.loading import placement, precision, quantization
from probe.loading.options import Loading
from probe.loading.planning import plan_backbone
from probe.loading.precision import Precision, PrecisionWarning, choose_precision, processor_flags, slow_precision
from probe.loading.supported import dtype_argument
from probe.loading.vae_memory import decoding_bytes, peak_bytes
from store import Clip, Selection
from store.errors import InvalidInputError, UnsupportedBackboneError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TEXT = {"prompt_embeds": tiny.embeds(13, 32, 0)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "wan"
    tiny.wan().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load_backbone(tiny.wan()).generate(None, steps=1, conditioning={**TEXT, "guidance_scale": 1.0}, **tiny.SIZE)


def captured(backbone: Any, clip: Clip) -> torch.Tensor:
    found: list[torch.Tensor] = []
    text = {name: value.to(backbone.dtype) for name, value in TEXT.items()}
    run_clip(
        backbone, clip, Selection([-1], [1]), lambda one: found.append(one.query.clone()), steps=2, conditioning=text
    )
    return found[0]


def refusal(kind: type[Exception], source: Any, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        load_backbone(source, device="cpu", **options)
    return str(caught.value)


# Precision ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("THUDM/CogVideoX-2b", Precision(torch.float16, torch.float16)),
        ("zai-org/CogVideoX-5b", Precision(torch.bfloat16, torch.bfloat16)),
        ("Wan-AI/Wan2.2-T2V-A14B-Diffusers", Precision(torch.bfloat16, torch.float32)),
        ("somebody/else", Precision(torch.bfloat16, torch.bfloat16)),
    ],
)
def test_auto_is_what_the_authors_ran_on_an_accelerator_and_float32_on_a_processor(
    name: str, expected: Precision
) -> None:
    card = find_card(name)
    assert choose_precision(Loading(), CUDA, card) == expected
    assert choose_precision(Loading(), CPU, card) == Precision(torch.float32, torch.float32)


def test_what_is_asked_for_wins_but_a_float32_vae_stays() -> None:
    card = find_card("Wan-AI/Wan2.1-T2V-14B-Diffusers")
    assert choose_precision(Loading(dtype="float16"), CUDA, card) == Precision(torch.float16, torch.float32)
    both = Loading(dtype="float16", vae_dtype="bfloat16")
    assert choose_precision(both, CPU, card) == Precision(torch.float16, torch.bfloat16)


def test_precisions_of_cards_are_data_types_with_a_source() -> None:
    for card in model_cards():
        if card.precision is not None:
            assert {card.precision.model, card.precision.vae} <= {"float32", "bfloat16", "float16"}
            assert card.precision.source


def test_a_folder_is_loaded_with_a_data_type_for_each_part_and_runs(saved: Path) -> None:
    backbone = load_backbone(saved, device="cpu", dtype="bfloat16", vae_dtype="float32")
    assert (backbone.dtype, backbone.pipeline.vae.dtype) == (torch.bfloat16, torch.float32)
    planned = plan_backbone(saved, device="cpu", dtype="bfloat16", vae_dtype="float32")
    assert (planned.dtype, planned.pipeline.vae.dtype) == (torch.bfloat16, torch.float32)


def test_a_pipeline_that_does_not_convert_for_its_vae_runs_with_another_data_type(tmp_path: Path) -> None:
    backbone = load_backbone(tiny.cogvideox(), dtype="bfloat16", vae_dtype="float32")
    text = {"prompt_embeds": tiny.embeds(tiny.TEXT, 32, 0).bfloat16(), "guidance_scale": 1.0}
    made = backbone.generate(None, steps=1, conditioning=text, **tiny.SIZE)
    assert made.images.shape == (9, 80, 112, 3)
    assert backbone.encode(made).dtype == torch.float32


def test_slow_data_types_are_told_with_the_faster_one() -> None:
    assert "dtype='bfloat16'" in str(slow_precision("cuda", torch.float32, ()))
    assert "dtype='float32'" in str(slow_precision("cpu", torch.bfloat16, ["avx2", "avx512f"]))
    assert "dtype='float32'" in str(slow_precision("cpu", torch.float16, ["avx512_bf16"]))
    for fast in (("cpu", torch.float32, ["avx2"]), ("cpu", torch.bfloat16, ["amx_bf16"]), ("cuda", torch.float16, [])):
        assert slow_precision(*fast) is None


def test_a_large_model_warns_and_a_small_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "processor_flags", lambda: ("avx2",))
    load_backbone(tiny.cogvideox(), dtype="bfloat16")
    monkeypatch.setattr(precision, "LARGE", 1)
    with pytest.warns(PrecisionWarning, match="^bfloat16 on this processor, which has none of avx512_bf16"):
        load_backbone(tiny.cogvideox(), dtype="bfloat16")


def test_the_flags_of_a_processor_are_read(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu AVX2 avx512_bf16\n")
    assert processor_flags(tmp_path / "cpuinfo") == ("fpu", "avx2", "avx512_bf16")
    (tmp_path / "arm").write_text("Features\t: fp asimd bf16\n")
    assert "bf16" in processor_flags(tmp_path / "arm")


# Place -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offload", ["model", "group"])
@pytest.mark.parametrize("source", ["folder", "object"])
def test_offloaded_parts_give_what_the_others_give(offload: Any, source: str, saved: Path, clip: Clip) -> None:
    plain = captured(load_backbone(tiny.wan()), clip)
    given = saved if source == "folder" else tiny.wan()
    backbone = load_backbone(given, device="cpu", offload=offload)
    assert placement.is_offloaded(backbone.pipeline)
    assert torch.allclose(captured(backbone, clip), plain, atol=1e-4)


def test_single_modules_are_not_offloaded_from_the_cpu_to_itself() -> None:
    assert refusal(InvalidInputError, tiny.wan(), offload="sequential").endswith("runs on the CPU. Leave it out.")


def test_each_offload_calls_diffusers_with_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, Any, dict[str, Any]]] = []
    for name in ("enable_model_cpu_offload", "enable_sequential_cpu_offload", "enable_group_offload"):

        def call(self: Any, *args: Any, name: str = name, **kwargs: Any) -> None:
            called.append((name, args, kwargs))

        monkeypatch.setattr(DiffusionPipeline, name, call)
    for offload in ("model", "sequential", "group"):
        placement.place_pipeline(tiny.wan(), Loading(offload=offload), CUDA)  # type: ignore[arg-type]
    assert called == [
        ("enable_model_cpu_offload", (), {"device": CUDA}),
        ("enable_sequential_cpu_offload", (), {"device": CUDA}),
        ("enable_group_offload", (CUDA,), {"offload_type": "leaf_level", "use_stream": True}),
    ]


def test_what_diffusers_cannot_offload_is_refused_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, **kwargs: Any) -> None:
        raise ImportError("needs accelerate")

    pipeline = tiny.wan()
    pipeline.enable_model_cpu_offload(device="cpu")
    assert "are offloaded or mapped to devices already" in refusal(InvalidInputError, pipeline, offload="model")
    monkeypatch.setattr(DiffusionPipeline, "enable_model_cpu_offload", broken)
    assert refusal(UnsupportedBackboneError, tiny.wan(), offload="model") == (
        "WanPipeline cannot be loaded with offload='model': needs accelerate"
    )


def test_a_device_map_and_a_variant_are_passed_on(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    real = DiffusionPipeline.from_pretrained

    def from_pretrained(location: str, **options: Any) -> Any:
        asked.update(options)
        pipeline = real(location, **{dtype_argument(): torch.float32, "tokenizer": None, "text_encoder": None})
        pipeline.hf_device_map = {"transformer": 0}  # as diffusers sets it
        return pipeline

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", from_pretrained)
    monkeypatch.setattr(DiffusionPipeline, "to", lambda *_: pytest.fail("a mapped pipeline was moved"))
    load_backbone(saved, device_map="balanced", variant="fp16")
    assert (asked["device_map"], asked["variant"]) == ("balanced", "fp16")


def test_options_that_exclude_each_other_or_have_no_effect_are_refused(saved: Path) -> None:
    both = "both decide where the weights are kept. Pass one of them."
    with pytest.raises(InvalidInputError, match=both):
        Loading(offload="model", device_map="balanced")
    with pytest.raises(InvalidInputError, match=both):
        Loading(device="cpu", device_map="balanced")
    assert refusal(InvalidInputError, tiny.wan(), variant="fp16").startswith("variant='fp16' takes effect while")
    assert refusal(InvalidInputError, "mini", quantization="quanto-int8").endswith(
        "has no effect on the small mini backbones. Leave it out."
    )
    assert "unknown offload 'cpu'" in refusal(InvalidInputError, "mini", offload="cpu")


# Quantization --------------------------------------------------------------------------------------------------------


def test_a_quantization_whose_package_is_missing_is_refused_before_loading(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization, "_is_installed", lambda package: False)
    assert refusal(InvalidInputError, saved, quantization="bitsandbytes-4bit") == (
        "quantization='bitsandbytes-4bit' needs bitsandbytes, which is not installed. Run pip install bitsandbytes."
    )


def test_a_named_quantization_takes_the_transformers_and_text_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "_is_installed", lambda package: True)
    parts = {
        "vae": ["diffusers", "AutoencoderKLWan"],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "transformer_2": [None, None],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
    }
    made: list[tuple[str, str, torch.dtype]] = []

    def config(name: str, library: str, compute: torch.dtype) -> Any:
        made.append((name, library, compute))
        return diffusers.BitsAndBytesConfig.__new__(diffusers.BitsAndBytesConfig)

    monkeypatch.setattr(quantization, "_config", config)
    found = quantization.quantization_config("bitsandbytes-8bit", parts, torch.bfloat16)
    assert list(found.quant_mapping) == ["transformer", "text_encoder"]
    assert [library for _, library, _ in made] == ["diffusers", "transformers"]


def test_a_configuration_of_diffusers_is_passed_on(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = diffusers.PipelineQuantizationConfig.__new__(diffusers.PipelineQuantizationConfig)
    asked: dict[str, Any] = {}

    def from_pretrained(location: str, **options: Any) -> Any:
        asked.update(options)
        return tiny.wan()

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", from_pretrained)
    load_backbone(saved, device="cpu", quantization=given)
    assert asked["quantization_config"] is given


@pytest.mark.filterwarnings("ignore:`Quanto(Config|Quantizer)` is deprecated:FutureWarning")
def test_int8_weights_of_quanto_from_a_folder(saved: Path, clip: Clip) -> None:
    quanto = pytest.importorskip("optimum.quanto")
    backbone = load_backbone(saved, device="cpu", dtype="float32", quantization="quanto-int8")
    layers = [module for module in backbone.pipeline.transformer.modules() if isinstance(module, quanto.QLinear)]
    assert layers
    found, plain = captured(backbone, clip), captured(load_backbone(saved, device="cpu", dtype="float32"), clip)
    assert 0 < float((found - plain).norm() / plain.norm()) < 5e-2


def test_a_quantized_pipeline_is_not_cast() -> None:
    pipeline = tiny.wan()
    pipeline.transformer.is_quantized = True
    assert refusal(InvalidInputError, pipeline, dtype="bfloat16") == (
        "dtype='bfloat16' was asked for, but the transformer of this pipeline is quantized and cannot be cast. Leave "
        "dtype out."
    )


# The VAE -------------------------------------------------------------------------------------------------------------


def test_tiles_are_switched_on_and_off_and_refused_where_there_are_none() -> None:
    assert load_backbone(tiny.wan(), vae_tiling=True).pipeline.vae.use_tiling
    assert not load_backbone(tiny.wan(), vae_tiling=False).pipeline.vae.use_tiling
    assert not load_backbone(tiny.wan()).pipeline.vae.use_tiling
    pipeline = tiny.wan()
    pipeline.vae.enable_tiling = Mock(side_effect=NotImplementedError)  # as that of a VAE of diffusers without tiles
    assert "AutoencoderKLWan has no tiles" in refusal(InvalidInputError, pipeline, vae_tiling=True)


@pytest.mark.parametrize(("free", "tiled"), [(10, True), (10**15, False)])
def test_auto_takes_tiles_where_decoding_would_not_fit(free: int, tiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone(tiny.wan())
    monkeypatch.setattr(type(backbone), "device", CUDA)
    monkeypatch.setattr(type(backbone), "default_size", (80, 112, 9))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
    assert placement.set_vae_tiling(backbone, "auto") is tiled
    assert backbone.pipeline.vae.use_tiling is tiled


def test_the_memory_of_decoding_grows_with_the_area_and_is_counted_without_weights() -> None:
    backbone = load_backbone(tiny.wan())
    small, large = (decoding_bytes(backbone, size) for size in ((80, 112, 9), (160, 112, 9)))
    assert 1.7 < large / small < 2.1
    output = 9 * 80 * 112 * 3 * 4
    assert small > output


def test_peak_counts_what_is_alive_at_one_time_and_not_views() -> None:
    values = torch.empty(1000, device="meta")
    assert peak_bytes(lambda: values.view(10, 100).transpose(0, 1)) == 0
    assert peak_bytes(lambda: [(values + number).sum() for number in range(5)]) == 4000 + 4 * 5


# LoRA, compiled transformers, and other families --------------------------------------------------------------------


@pytest.mark.parametrize("how", ["wrapped", "in place", "blocks"])
def test_compiled_transformers_are_seen(how: str, clip: Clip) -> None:
    plain = captured(load_backbone(tiny.wan()), clip)
    pipeline = tiny.wan()
    if how == "wrapped":
        pipeline.transformer = torch.compile(pipeline.transformer, backend="eager")
    elif how == "in place":
        pipeline.transformer.compile(backend="eager")
    else:
        for number, block in enumerate(pipeline.transformer.blocks):
            pipeline.transformer.blocks[number] = torch.compile(block, backend="eager")
    backbone = load_backbone(pipeline)
    assert [layer.name for layer in backbone.layers] == ["blocks.0.attn1", "blocks.1.attn1"]
    assert type(unwrapped(backbone.denoisers[0])).__name__ == "WanTransformer3DModel"
    assert torch.allclose(captured(backbone, clip), plain, atol=1e-5)


def test_a_lora_changes_what_is_captured(clip: Clip) -> None:
    peft = pytest.importorskip("peft")
    pipeline = tiny.wan()
    targets = r"blocks\.\d+\.attn1\.to_[qkv]"
    pipeline.transformer.add_adapter(
        peft.LoraConfig(r=2, lora_alpha=8, target_modules=targets, init_lora_weights=False)
    )
    backbone = load_backbone(pipeline)
    adapted = captured(backbone, clip)
    pipeline.transformer.disable_adapters()
    assert torch.equal(captured(backbone, clip), captured(load_backbone(tiny.wan()), clip))
    assert not torch.allclose(adapted, captured(backbone, clip))


def test_a_wrapped_lora_is_seen_and_named(clip: Clip) -> None:
    peft = pytest.importorskip("peft")
    pipeline = tiny.wan()
    config = peft.LoraConfig(r=2, target_modules=r".*attn1\.to_[qkv]")
    pipeline.transformer = peft.get_peft_model(pipeline.transformer, config)
    backbone = load_backbone(pipeline)
    assert [layer.name for layer in backbone.layers] == ["blocks.0.attn1", "blocks.1.attn1"]
    assert torch.equal(captured(backbone, clip), captured(load_backbone(tiny.wan()), clip))


def test_a_family_is_taken_by_name_or_class(saved: Path, tmp_path: Path) -> None:
    class Mine(Wan):
        family = "Mine"
        pipelines = ("MinePipeline",)

    index = json.loads((saved / "model_index.json").read_text())
    assert type(load_backbone(saved, device="cpu", family=Mine)).__name__ == "Mine"
    assert "unknown family 'Mine'" in refusal(InvalidInputError, saved, family="Mine")
    register_family(Mine)
    try:
        assert type(load_backbone(saved, device="cpu", family="Mine")).__name__ == "Mine"
        assert type(plan_backbone(saved, family="Mine")).__name__ == "Mine"
    finally:
        REGISTRY.unregister("Mine")
    assert refusal(InvalidInputError, saved, family=AutoencoderKLWan) == (
        "family must be a subclass of Backbone or its name; got AutoencoderKLWan."
    )
    assert index["_class_name"] == "WanPipeline"
