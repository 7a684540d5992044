"""Edit fidelity and temporal consistency through tiny random models, saved to folders and loaded from them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ViTConfig,
    ViTModel,
)
from transformers.utils import logging

from analyses.metrics.appearance import edit_fidelity, temporal_consistency
from analyses.metrics.encoders import ClipEncoder, ImageEncoder, load_clip_model, load_image_encoder
from store.clips.clip import Clip
from store.errors import BackboneNotFoundError, ClipError, InvalidInputError

PROMPT = "a red disc moves left"
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)


def processor(folder: Path, kind: str) -> None:
    """The settings of an image processor: no resizing or cropping but to 16 x 16 px."""
    (folder / "preprocessor_config.json").write_text(
        f'{{"image_processor_type": "{kind}", "size": {{"height": 16, "width": 16}}, "do_center_crop": false, '
        f'"do_resize": true, "resample": 2, "image_mean": {list(MEAN)}, "image_std": {list(STD)}}}'
    )


def tokenizer() -> PreTrainedTokenizerFast:
    words = ["<pad>", "<start>", "<end>", "<unknown>", *PROMPT.split(), "blue", "stripes"]
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unknown>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<start>", 1), ("<end>", 2)]
    made.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<end>")


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    text = {"vocab_size": 11, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "eos_token_id": 2}
    text |= {"intermediate_size": 12, "max_position_embeddings": 9, "bos_token_id": 1, "pad_token_id": 0}
    sight = {"hidden_size": 12, "num_attention_heads": 3, "num_hidden_layers": 2, "image_size": 16, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=sight | {"intermediate_size": 10}, projection_dim=6)
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    processor(folder, "CLIPImageProcessor")
    return folder


def vit_config() -> ViTConfig:
    return ViTConfig(
        hidden_size=12,
        num_attention_heads=3,
        num_hidden_layers=2,
        intermediate_size=10,
        image_size=16,
        patch_size=8,
        initializer_range=0.5,
    )


def vit(folder: Path) -> None:
    ViTModel(vit_config()).save_pretrained(folder)
    processor(folder, "ViTImageProcessor")


def dinov2(folder: Path) -> None:
    config = Dinov2Config(
        hidden_size=12,
        num_attention_heads=3,
        num_hidden_layers=2,
        mlp_ratio=2,
        image_size=16,
        patch_size=8,
        initializer_range=0.5,
    )
    Dinov2Model(config).save_pretrained(folder)
    processor(folder, "BitImageProcessor")


@pytest.fixture(scope="module", params=[vit, dinov2])
def dino_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(2)
    folder = tmp_path_factory.mktemp("dino")
    request.param(folder)
    return folder


@pytest.fixture(scope="module")
def clip() -> Clip:
    images = np.random.default_rng(3).integers(0, 256, (5, 20, 28, 3), dtype=np.uint8)
    return Clip(images, fps=8)


def pixels(clip: Clip) -> torch.Tensor:
    """(image, 3, 16, 16), by pillow alone."""
    small = [np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR)) for image in clip.images]
    return torch.from_numpy((np.stack(small) / 255 - MEAN) / STD).float().permute(0, 3, 1, 2)


@torch.no_grad()
def test_edit_fidelity_is_the_mean_cosine_of_images_and_text(clip_folder: Path, clip: Clip) -> None:
    model = CLIPModel.from_pretrained(clip_folder).eval()
    tokens = torch.tensor([[1, 4, 5, 6, 7, 8, 2]])  # <start> a red disc moves left <end>
    out = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), pixel_values=pixels(clip))
    expected = (out.logits_per_image[:, 0] / model.logit_scale.exp()).mean().item()
    assert edit_fidelity(clip, PROMPT, model=clip_folder) == pytest.approx(expected, abs=1e-5)
    assert edit_fidelity(clip.images, PROMPT, model=str(clip_folder), batch=2) == pytest.approx(expected, abs=1e-5)
    loaded = load_clip_model(clip_folder, device="cpu", local_files_only=True)
    assert edit_fidelity(clip, PROMPT, model=loaded) == pytest.approx(expected, abs=1e-5)
    assert edit_fidelity(clip, "blue stripes", model=loaded) != pytest.approx(expected, abs=1e-3)
    assert repr(loaded) == f"ClipEncoder({str(clip_folder)!r}, on cpu)"


@torch.no_grad()
def test_temporal_consistency_is_the_mean_cosine_of_consecutive_images(dino_folder: Path, clip: Clip) -> None:
    loaded = load_image_encoder(dino_folder)
    tokens = loaded.model(pixel_values=pixels(clip)).last_hidden_state[:, 0].double().numpy()

    def cosine(i: int, j: int) -> float:
        return float(tokens[i] @ tokens[j] / np.linalg.norm(tokens[i]) / np.linalg.norm(tokens[j]))

    expected = np.mean([cosine(n, n + 1) for n in range(4)])
    released = np.mean([[cosine(n, max(0, n - 1)), cosine(n, 0)] for n in range(5)])
    assert temporal_consistency(clip, model=dino_folder, batch=2) == pytest.approx(expected, abs=1e-5)
    assert temporal_consistency(clip, model=loaded, preset="det") == pytest.approx(released, abs=1e-5)
    assert abs(expected - released) > 1e-3
    still = Clip(np.repeat(clip.images[:1], 3, axis=0), fps=8)
    assert temporal_consistency(still, model=loaded) == pytest.approx(1, abs=1e-6)


def test_encoders_keep_no_gradient_and_run_in_batches_of_float32(clip_folder: Path, clip: Clip) -> None:
    loaded = load_clip_model(clip_folder)
    features = loaded.images(clip.images, batch=3)
    assert features.shape == (5, 6)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    torch.testing.assert_close(torch.linalg.vector_norm(features, dim=-1), torch.ones(5))
    assert not loaded.model.training
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}


def test_a_vit_is_loaded_without_a_pooling_layer(tmp_path: Path) -> None:
    ViTModel(vit_config(), add_pooling_layer=False).save_pretrained(tmp_path)
    processor(tmp_path, "ViTImageProcessor")
    assert load_image_encoder(tmp_path).model.pooler is None


def test_a_prompt_that_is_too_long_is_cut_with_a_warning(clip_folder: Path, clip: Clip) -> None:
    loaded = load_clip_model(clip_folder)
    long = "blue " * 8 + "stripes"
    message = f"the prompt has 11 tokens and {clip_folder} reads 9: its end is not compared."
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        found = edit_fidelity(clip, long, model=loaded)
    assert found == pytest.approx(edit_fidelity(clip, "blue " * 7, model=loaded), abs=1e-6)


def message_of(error: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(error) as found:
        call()
    return str(found.value)


def test_absent_models_are_explained(tmp_path: Path) -> None:
    remedy = (
        "Pass the folder of a copy that was saved with save_pretrained, or a hub id such as {}, which is downloaded "
        "once where there is a network."
    )
    nowhere = tmp_path / "nowhere"
    found = message_of(BackboneNotFoundError, lambda: load_clip_model(nowhere))
    assert found == (
        f"the CLIP model {str(nowhere)!r} could not be loaded: there is no folder {nowhere}. "
        + remedy.format("openai/clip-vit-base-patch32")
    )
    found = message_of(BackboneNotFoundError, lambda: load_image_encoder("nobody/nothing", local_files_only=True))
    assert found.startswith("the DINO model 'nobody/nothing' could not be loaded: ")
    assert found.endswith(". " + remedy.format("facebook/dino-vitb16"))
    found = message_of(BackboneNotFoundError, lambda: load_image_encoder(tmp_path))
    assert found.startswith(f"the DINO model {str(tmp_path)!r} could not be loaded: ")


def test_parts_that_are_missing_are_explained(clip_folder: Path, tmp_path: Path) -> None:
    for part in ("tokenizer", "preprocessor", "model"):
        folder = tmp_path / part
        shutil.copytree(clip_folder, folder)
        for path in folder.glob(f"{part}*"):
            os.remove(path)
        found = message_of(BackboneNotFoundError, lambda folder=folder: load_clip_model(folder, local_files_only=True))
        assert found.startswith(f"the CLIP model {str(folder)!r} could not be loaded: ")

    found = message_of(BackboneNotFoundError, lambda: load_clip_model(tmp_path / "tokenizer"))
    assert found.startswith(
        f"the CLIP model {str(tmp_path / 'tokenizer')!r} could not be loaded: it has no tokenizer. "
    )


def test_weights_are_never_made_up(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    vit(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["layernorm.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert message_of(InvalidInputError, lambda: load_image_encoder(tmp_path)) == (
        f"{tmp_path} lacks 1 of its weights, first layernorm.weight; they would be initialised at random. Save or "
        "download the model again."
    )


def test_models_of_another_kind_are_refused(clip_folder: Path, tmp_path: Path, clip: Clip) -> None:
    ResNetConfig().save_pretrained(tmp_path)
    assert message_of(InvalidInputError, lambda: load_image_encoder(tmp_path)) == (
        f"{tmp_path} is a model of type 'resnet'; DINO here is one of: vit, dinov2, dinov2_with_registers, dinov3_vit."
    )
    vit(tmp_path)
    assert message_of(InvalidInputError, lambda: load_clip_model(tmp_path)) == (
        f"{tmp_path} is a model of type 'vit'; CLIP here is one of: clip."
    )
    dino = load_image_encoder(tmp_path)
    assert message_of(InvalidInputError, lambda: edit_fidelity(clip, PROMPT, model=dino)) == (
        f"ImageEncoder({str(tmp_path)!r}, on cpu) reads no text. Pass what load_clip_model returned."
    )
    found = message_of(InvalidInputError, lambda: load_clip_model(clip_folder, device="tpu"))
    assert found.startswith("device 'tpu' cannot be used: ")


def test_bad_input_is_refused_before_a_model_is_loaded(clip: Clip) -> None:
    assert message_of(InvalidInputError, lambda: edit_fidelity(clip, None)) == "prompt must be text; got None."
    for prompt in ("", "  "):
        found = message_of(InvalidInputError, lambda prompt=prompt: edit_fidelity(clip, prompt))
        assert found == f"prompt must be a non-empty string; got {prompt!r}."
    assert message_of(InvalidInputError, lambda: temporal_consistency(clip.images[:1])) == (
        "the clip has 1 image; temporal consistency compares consecutive ones."
    )
    assert message_of(InvalidInputError, lambda: temporal_consistency(clip, preset="vbench")) == (
        "unknown preset 'vbench'. Known: 'exact', 'det'."
    )
    with pytest.raises(ClipError):
        edit_fidelity(clip.images[..., 0], PROMPT)


def test_batches_of_no_image_are_refused(clip_folder: Path, clip: Clip) -> None:
    loaded = load_clip_model(clip_folder)
    assert isinstance(loaded, ClipEncoder)
    assert isinstance(loaded, ImageEncoder)
    assert message_of(InvalidInputError, lambda: loaded.images(clip.images, batch=0)) == (
        "batch must be at least 1; got 0."
    )


def test_what_transformers_says_is_left_as_it_was(clip_folder: Path) -> None:
    before = logging.get_verbosity()
    load_clip_model(clip_folder)
    with pytest.raises(BackboneNotFoundError):
        load_clip_model(Path("nowhere"))
    assert logging.get_verbosity() == before
