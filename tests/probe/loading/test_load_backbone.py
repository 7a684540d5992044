"""load_backbone: every kind of source, and every way in which there is none."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import diffusers
import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from diffusers import LucyEditPipeline, SanaVideoTransformer3DModel
from torch import nn

from probe import load_backbone, run_clip
from probe.families import Wan, families
from probe.loading import sources
from probe.loading.supported import check_index, dtype_argument
from probe.mini import new_pipeline, save_mini
from store import Clip, Selection
from store.errors import BackboneNotFoundError, InvalidInputError, UnsupportedBackboneError

SUPPORTED = (
    f"Supported families: {', '.join(family.family for family in families())} (docs/families.md lists their "
    "pipelines). "
    "Another one is added with register_family."
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "wan"
    tiny.wan().save_pretrained(folder)
    return folder


def refusal(kind: type[Exception], source: Any, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        load_backbone(source, **options)
    return str(caught.value)


def test_a_pipeline_object_is_taken_as_it_is() -> None:
    pipeline = tiny.wan()
    backbone = load_backbone(pipeline)
    assert backbone.pipeline is pipeline
    assert (backbone.name, backbone.family, backbone.dtype) == ("WanPipeline", "Wan", torch.float32)
    assert (backbone.device.type, backbone.revision) == ("cpu", None)


def test_dtype_is_set_where_asked() -> None:
    assert load_backbone(tiny.cogvideox(), dtype="bfloat16").dtype == torch.bfloat16
    assert load_backbone(tiny.cogvideox(), dtype=torch.float16).dtype == torch.float16


@pytest.mark.parametrize("as_path", [True, False])
def test_a_saved_folder_is_loaded(saved: Path, as_path: bool) -> None:
    backbone = load_backbone(saved if as_path else str(saved), device="cpu")
    original = load_backbone(tiny.wan())
    assert backbone.name == str(saved)
    assert backbone.config_hash == original.config_hash
    for name, weight in original.pipeline.transformer.state_dict().items():
        assert torch.equal(weight, backbone.pipeline.transformer.state_dict()[name])


def test_revision_of_a_hub_snapshot_is_its_commit(saved: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef" * 2 + "01234567"
    snapshot = tmp_path / "snapshots" / commit
    snapshot.parent.mkdir()
    snapshot.symlink_to(saved)
    assert load_backbone(snapshot, device="cpu").revision == commit


def test_a_folder_with_a_mini_backbone_is_loaded(tmp_path: Path) -> None:
    save_mini(new_pipeline(), tmp_path / "trained")
    backbone = load_backbone(tmp_path / "trained", device="cpu")
    assert backbone.layout(40, 40, 6).spans == tuple(range(n, n + 1) for n in range(6))
    assert backbone.text_tokens() == 40
    assert len(backbone.revision) == 12
    (tmp_path / "trained" / "model_index.json").unlink()
    assert load_backbone(tmp_path / "trained", device="cpu").revision == backbone.revision
    save_mini(new_pipeline(), tmp_path / "other")
    assert load_backbone(tmp_path / "other", device="cpu").revision != backbone.revision


@pytest.mark.parametrize("kind", ["accelerate", "group"])
def test_an_offloaded_pipeline_is_not_moved(kind: str) -> None:
    pipeline = tiny.cogvideox()
    if kind == "accelerate":
        pipeline.enable_model_cpu_offload(device="cpu")
    else:
        pipeline.transformer.enable_group_offload(torch.device("cpu"), offload_type="leaf_level")
    load_backbone(pipeline, device="meta")
    assert not pipeline.transformer.proj_out.weight.is_meta
    assert load_backbone(tiny.cogvideox(), device="meta").pipeline.transformer.proj_out.weight.is_meta


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / "images").mkdir()
    assert refusal(BackboneNotFoundError, tmp_path) == (
        f"{tmp_path} is not a pipeline: it has no model_index.json. It holds: images, notes.txt. Pass the folder that "
        "a pipeline's save_pretrained wrote, with model_index.json and a folder for each component."
    )


def test_an_incomplete_folder_is_refused(tmp_path: Path) -> None:
    index = {
        "_class_name": "WanPipeline",
        "vae": ["diffusers", "A"],
        "scheduler": ["diffusers", "S"],
        "tokenizer": [None, None],
    }
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "scheduler").mkdir()
    assert refusal(BackboneNotFoundError, tmp_path) == (
        f"{tmp_path} is an incomplete pipeline: its model_index.json names vae, scheduler, but there is no folder vae. "
        "Save or copy the pipeline again."
    )


def test_missing_folders_and_files_are_refused(tmp_path: Path) -> None:
    missing, file = tmp_path / "missing", tmp_path / "file"
    file.touch()
    remedy = "Pass the folder that a pipeline's save_pretrained wrote."
    assert refusal(BackboneNotFoundError, str(missing)) == f"{missing} does not exist. {remedy}"
    assert refusal(BackboneNotFoundError, str(file)) == f"{file} is a file, not a folder. {remedy}"


@pytest.mark.parametrize(
    "name",
    [
        "nothere.mp4",
        "owner/clip.MP4",
        "runs/run.zarr",
        "mimi",
        "two words/x",
        "clips/*",
        "owner/",
        "owner/name@main",
        "a\\b",
    ],
)
def test_what_can_be_no_hub_id_is_refused_without_asking_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*args: object, **options: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(sources, "_fetch_index", asked)
    assert refusal(BackboneNotFoundError, name) == (
        f"no file, folder or bundled backbone named {name!r}. Give a folder that exists, 'mini' or 'mini-rope', which "
        "are bundled, or a hub id, which is owner/name."
    )
    with pytest.raises(AssertionError, match="the hub was asked"):
        load_backbone("owner/some_name-1.5B")


@pytest.mark.parametrize("name", ["./absent", "/absent/pipeline", "~absent/x", "some/deep/path"])
def test_paths_are_refused_without_asking_the_hub(name: str) -> None:
    assert " does not exist. Pass the folder that a pipeline's save_pretrained wrote." in refusal(
        BackboneNotFoundError, name
    )


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_is_not_the_current_folder(name: str, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved)
    assert refusal(BackboneNotFoundError, name) == (
        "no backbone was named: the name is empty. Give a folder that exists, 'mini' or 'mini-rope', which are "
        "bundled, or a hub id, which is owner/name."
    )


@pytest.mark.parametrize("source", ["mini", "mini-rope", "pipeline"])
def test_a_device_that_cannot_be_used_is_refused(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    given = tiny.wan() if source == "pipeline" else source
    assert refusal(InvalidInputError, given, device="foo") == (
        "device 'foo' is unknown. Available here: cpu, cuda:0, cuda:1."
    )

    def empty(*args: object, **kwargs: object) -> None:
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(torch, "empty", empty)
    assert refusal(InvalidInputError, given, device="cuda:7") == (
        "device 'cuda:7' cannot be used: Torch not compiled with CUDA enabled. Available here: cpu, cuda:0, cuda:1."
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_cuda_without_a_gpu_is_refused() -> None:
    message = refusal(InvalidInputError, "mini", device="cuda")
    assert message.startswith("device 'cuda' cannot be used: ")
    assert message.endswith(". Available here: cpu.")


def test_a_folder_of_another_family_is_refused_before_its_weights_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    assert refusal(UnsupportedBackboneError, tmp_path) == (
        f"FluxPipeline cannot be probed: it is of no supported family. {SUPPORTED}"
    )


def test_an_unknown_hub_id_is_refused() -> None:
    message = refusal(BackboneNotFoundError, "nobody/nothing", local_files_only=True)
    assert message.startswith("the pipeline 'nobody/nothing' could not be loaded: ")
    assert message.endswith(
        " Give a hub id that exists, the folder of a saved pipeline, or 'mini' or 'mini-rope', which are bundled. "
        "Without a network, what was downloaded before loads with local_files_only=True."
    )


def test_a_pipeline_of_another_family_is_refused() -> None:
    class OtherVideoPipeline(SimpleNamespace):
        pass

    pipeline = OtherVideoPipeline(components={}, transformer=nn.Linear(2, 2))
    assert refusal(UnsupportedBackboneError, pipeline) == (
        f"OtherVideoPipeline cannot be probed: it is of no supported family. {SUPPORTED}"
    )


def test_a_unet_is_refused_with_its_reason() -> None:
    class AnimatePipeline:
        components: ClassVar[dict[str, Any]] = {}
        unet = torch.nn.Identity()

    with pytest.raises(UnsupportedBackboneError, match="AnimatePipeline cannot be probed: it denoises with a UNet"):
        load_backbone(AnimatePipeline())


def test_linear_attention_is_refused_with_its_reason() -> None:
    transformer = SanaVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=8,
    )
    pipeline = SimpleNamespace(components={}, transformer=transformer)
    assert refusal(UnsupportedBackboneError, pipeline) == (
        "SanaVideoTransformer3DModel layer transformer_blocks.0.attn1 has the attention processor "
        "SanaLinearAttnProcessor3_0, which never multiplies queries and keys: it calls neither "
        "scaled_dot_product_attention nor dispatch_attention_fn. Its attention is linear (or otherwise without a "
        "softmax over keys), so there is no attention to probe."
    )


def video_to_video() -> Any:
    """A pipeline that takes a video, with the parts of one that does not."""
    parts = tiny.wan().components
    wanted = {"tokenizer", "text_encoder", "vae", "transformer", "scheduler"}
    return LucyEditPipeline(**{name: part for name, part in parts.items() if name in wanted})


def test_a_pipeline_is_told_by_its_transformer_and_its_remedy_works(tmp_path: Path) -> None:
    family, kind = "Wan", "WanPipeline"
    pipeline = video_to_video()
    words = (
        f"{type(pipeline).__name__} is not called as ditprobe calls pipelines, though its transformer is of the "
        f"{family} family. Use {kind}.from_pipe(pipeline, {dtype_argument()}=pipeline.dtype), which shares its weights."
    )
    assert refusal(UnsupportedBackboneError, pipeline) == words
    pipeline.save_pretrained(tmp_path)
    assert refusal(UnsupportedBackboneError, tmp_path) == words  # before its weights are loaded
    backbone = load_backbone(getattr(diffusers, kind).from_pipe(pipeline, **{dtype_argument(): pipeline.dtype}))
    assert backbone.pipeline.transformer is pipeline.transformer
    clip, captures = Clip(np.zeros((9, 80, 112, 3), np.uint8), fps=8), []
    conditioning = {"prompt_embeds": tiny.embeds(tiny.TEXT, 32, 0)}
    run_clip(backbone, clip, Selection([-1], [0]), captures.append, steps=2, conditioning=conditioning)
    assert len(captures) == 1


def test_a_transformer_with_a_condition_has_no_remedy_that_does_not_work() -> None:
    transformer = tiny.wan_transformer()
    transformer.register_to_config(in_channels=36)
    pipeline = SimpleNamespace(components={}, transformer=transformer)
    assert refusal(UnsupportedBackboneError, pipeline) == (
        "SimpleNamespace is not called as ditprobe calls pipelines, though its transformer is of the Wan family. "
        "WanPipeline cannot run it either: its transformer also takes 36 channels, where latents have 16. Supported "
        f"are {', '.join(Wan.pipelines)}."
    )


def test_an_index_that_names_a_known_transformer_says_when_its_remedy_fits() -> None:
    with pytest.raises(UnsupportedBackboneError, match="that fits where the transformer takes nothing but latents"):
        check_index({"_class_name": "WanOtherPipeline", "transformer": ["diffusers", "WanTransformer3DModel"]})


def test_a_bare_transformer_is_refused_with_the_remedy() -> None:
    assert refusal(UnsupportedBackboneError, tiny.wan_transformer()) == (
        "WanTransformer3DModel is a transformer alone; its VAE and scheduler are needed too. Pass the whole pipeline, "
        "such as WanPipeline(transformer=..., vae=..., scheduler=..., text_encoder=None, tokenizer=None)."
    )


def test_something_else_is_refused() -> None:
    assert refusal(UnsupportedBackboneError, 7) == (
        "int is neither a name, a path nor a diffusers pipeline. Pass one of these."
    )
    assert refusal(InvalidInputError, "mini", dtype="int8") == (
        "dtype 'int8' is unknown. Use 'auto', 'float32', 'bfloat16' or 'float16'."
    )


def indexed(folder: Path, content: bytes | dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    told = content if isinstance(content, bytes) else json.dumps({"_class_name": "WanPipeline", **content}).encode()
    (folder / "model_index.json").write_bytes(told)
    return folder


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 100_000, b'{"_class_name": ', b"null", b'"text"']
)
def test_an_index_that_is_damaged_is_refused(tmp_path: Path, content: bytes) -> None:
    message = refusal(BackboneNotFoundError, indexed(tmp_path / "a", content))
    assert message.startswith(f"{tmp_path / 'a/model_index.json'} is damaged: ")


@pytest.mark.parametrize(
    "content",
    [
        {"vae": ["os", "system"]},
        {"vae": ["builtins", "eval"]},
        {"vae": ["diffusers.utils", "x"]},
        {"vae": ["diffusers", "a.b"]},
        {"vae": ["probe.mini.text", "PixelCodec"]},
        {"vae": ["my_code", "VAE"]},
        {"vae": ["diffusers", None]},
        {"vae": [["os"], "system"]},
        {"vae": ["diffusers"]},
        {"_class_name": ["pipeline", "Mine"]},
        {"_class_name": None},
    ],
)
def test_an_index_that_names_other_code_is_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    message = refusal(UnsupportedBackboneError, indexed(tmp_path / "a", content))
    assert message.endswith("oad the pipeline yourself and pass it.")


def test_weights_that_are_pickles_are_loaded_only_where_asked(tmp_path: Path) -> None:
    tiny.wan().save_pretrained(tmp_path / "a", safe_serialization=False)
    message = refusal(UnsupportedBackboneError, tmp_path / "a")
    assert "a pickle, and not as safetensors" in message
    assert load_backbone(tmp_path / "a", device="cpu", use_safetensors=False).family == "Wan"


def test_a_mini_whose_configuration_is_damaged_is_refused(tmp_path: Path) -> None:
    save_mini(new_pipeline(), tmp_path / "trained")
    spoilt = {"num_layers": 10**9, "num_attention_heads": -3, "attention_head_dim": "x", "sample_frames": 10**8}
    files = [
        file
        for name in ("transformer", "text_encoder", "scheduler")
        for file in (tmp_path / "trained" / name).glob("*.json")
    ]
    for file in files:
        content = file.read_bytes()
        others = [json.dumps(json.loads(content) | {name: value}).encode() for name, value in spoilt.items()]
        for changed in (b"", b"[]", b"{", b"\xff", *(others if file.parent.name == "transformer" else ())):
            file.write_bytes(changed)
            refusal(BackboneNotFoundError, tmp_path / "trained", device="cpu")
        file.write_bytes(content)
    assert load_backbone(tmp_path / "trained", device="cpu").text_tokens() == 40


def test_a_mini_that_names_another_scheduler_than_one_is_refused(tmp_path: Path) -> None:
    save_mini(new_pipeline(), tmp_path / "trained")
    file = tmp_path / "trained/scheduler/scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"_class_name": "DiffusionPipeline"}))
    assert "is not a scheduler" in refusal(BackboneNotFoundError, tmp_path / "trained", device="cpu")
