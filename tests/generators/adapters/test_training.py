"""Training: what it lowers, what it leaves, how it is interrupted, resumed and ended by numbers that are not finite."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from guided import backbone_of, check_same_state, state_of
from safetensors import safe_open
from tiny_families import FAMILIES, PROMPT
from transfers import reference_of

from generators import sample, transfer_motion
from generators.adapters.adapter import MotionAdapter
from generators.adapters.det import DeT, DreamBooth, InvertedMotion
from generators.adapters.files import load_adapter, read_adapter_header, save_adapter
from generators.adapters.fitted import AttachAdapter, FittedMotion
from generators.adapters.lora import LoRA
from generators.adapters.motion_inversion import MotionInversion
from generators.adapters.temporal_kernel import TemporalKernel
from generators.adapters.training import checkpoint as checkpoint_module
from generators.adapters.training import train as training_module
from generators.adapters.training.memory import encoders_set_aside
from generators.adapters.training.settings import Losses, Training
from generators.adapters.training.train import train_adapter
from generators.errors import TrainingDivergedError
from probe import Backbone, load_backbone
from store import Clip, make_scene
from store.errors import (
    ClipError,
    CorruptRecordingError,
    InvalidInputError,
    NotFiniteError,
    OutputExistsError,
    RecordingError,
)

QUICK = Training(steps=6, learning_rate=1e-2, tracking_weight=0.0)


def clip_of(name: str) -> Clip:
    return dataclasses.replace(reference_of(FAMILIES[name]), prompt=FAMILIES[name].prompt)


def options_of(name: str) -> dict[str, Any]:
    family = FAMILIES[name]
    return {"conditioning": {**family.conditioning, **family.unguided}}


def new(name: str = "mini", **options: Any) -> MotionAdapter:
    return TemporalKernel(backbone_of(name), width=4, **options)


def fitted(name: str, training: Training = QUICK, **options: Any) -> tuple[MotionAdapter, list[Losses]]:
    adapter = new(name)
    losses = train_adapter(adapter, backbone_of(name), clip_of(name), training, **options_of(name), **options)
    return adapter, losses


def same(one: MotionAdapter, other: MotionAdapter) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_training_lowers_the_loss_and_leaves_the_backbone_as_it_was(name: str) -> None:
    backbone = backbone_of(name)
    before = state_of(backbone)
    weights = {key: value.clone() for key, value in backbone.denoisers[0].state_dict().items()}
    adapter, losses = fitted(name, dataclasses.replace(QUICK, steps=2))
    assert len(losses) == 2
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in adapter.parameters())
    check_same_state(state_of(backbone), before)
    assert all(torch.equal(value, weights[key]) for key, value in backbone.denoisers[0].state_dict().items())


def test_training_fits_one_noise_level() -> None:
    backbone, adapter = backbone_of("cogvideox added"), LoRA(backbone_of("cogvideox added"), rank=8)
    training = Training(steps=30, learning_rate=1e-2, tracking_weight=0.0)
    with pytest.MonkeyPatch.context() as patch:
        noise = torch.randn(1, 3, 4, 10, 14, generator=torch.Generator().manual_seed(1))
        patch.setattr(training_module.Objective, "draw", lambda self, step: (500, noise))
        losses = train_adapter(adapter, backbone, clip_of("cogvideox added"), training, **options_of("cogvideox added"))
    assert losses[-1].denoising < 0.85 * losses[0].denoising


@pytest.mark.parametrize(
    "changes", [{"gradient_checkpointing": True}, {"mixed_precision": "bf16"}, {"mixed_precision": "fp16"}]
)
def test_checkpointing_gives_the_same_numbers_and_mixed_precision_about_the_same(changes: dict[str, Any]) -> None:
    _, plain = fitted("cogvideox rotary")
    _, found = fitted("cogvideox rotary", dataclasses.replace(QUICK, **changes))
    tolerance = 1e-4 if "gradient_checkpointing" in changes else 5e-2
    assert [each.total for each in found] == pytest.approx([each.total for each in plain], rel=tolerance)


def test_half_precision_models_are_trained_in_full_precision_parameters() -> None:
    backbone = FAMILIES["wan"].backbone()
    backbone.pipeline.transformer.to(torch.bfloat16)
    adapter = TemporalKernel(backbone, width=4)
    losses = train_adapter(adapter, backbone, clip_of("wan"), QUICK, **options_of("wan"))
    assert {parameter.dtype for parameter in adapter.parameters()} == {torch.float32}
    assert np.isfinite([each.total for each in losses]).all()


def test_tracking_loss_counts_where_the_clip_has_tracks() -> None:
    backbone = load_backbone("mini")
    scene = make_scene(3, prompt=PROMPT)
    options = {"steps": 2, "learning_rate": 1e-3}
    found = train_adapter(new_of(backbone), backbone, scene, Training(tracking_weight=0.5, **options))
    without = train_adapter(new_of(backbone), backbone, scene, Training(tracking_weight=0.0, **options))
    assert [each.total for each in found] == pytest.approx([each.denoising + each.tracking for each in found])
    assert all(each.tracking > 0 for each in found)
    assert found[0].denoising == pytest.approx(without[0].denoising)
    assert {each.tracking for each in without} == {0.0}


def new_of(backbone: Backbone) -> MotionAdapter:
    return TemporalKernel(backbone, width=4, layers=[0])


# Interrupted and resumed -----------------------------------------------------------------------------------------


def stop_after(steps: int, error: type[BaseException]) -> Any:
    def on_step(losses: Losses) -> None:
        if losses.step + 1 == steps:
            raise error

    return on_step


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_resumed_training_gives_the_numbers_of_an_uninterrupted_one(tmp_path: Path, error: Any) -> None:
    whole, losses = fitted("cogvideox rotary")
    path = tmp_path / "motion.training.pt"
    with pytest.raises(error):
        fitted("cogvideox rotary", checkpoint=path, on_step=stop_after(4, error))
    assert path.exists()
    resumed: list[int] = []
    adapter, again = fitted(
        "cogvideox rotary", checkpoint=path, resume=True, on_step=lambda each: resumed.append(each.step)
    )
    assert resumed == [4, 5]
    assert again == losses
    assert same(adapter, whole)
    assert not path.exists()


def test_checkpoint_of_other_settings_or_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "motion.training.pt"
    with pytest.raises(KeyboardInterrupt):
        fitted("mini", checkpoint=path, on_step=stop_after(1, KeyboardInterrupt))
    with pytest.raises(InvalidInputError, match="keeps an interrupted training"):
        fitted("mini", checkpoint=path)
    with pytest.raises(InvalidInputError, match=r"keeps a training with learning_rate .* instead of 1.0"):
        fitted("mini", dataclasses.replace(QUICK, learning_rate=1.0), checkpoint=path, resume=True)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RecordingError, match="is not a training, or it is damaged"):
        fitted("mini", checkpoint=path, resume=True)
    with pytest.raises(InvalidInputError, match="needs the path of a checkpoint"):
        fitted("mini", resume=True)


def test_full_disk_while_the_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module.torch, "save", full)
    with pytest.raises(RecordingError, match=r"cannot be kept in .*No space left"):
        fitted("mini", checkpoint=tmp_path / "a.pt", on_step=stop_after(1, KeyboardInterrupt))
    assert list(tmp_path.iterdir()) == []


def test_loss_that_is_not_finite_ends_with_the_step_and_the_last_good_parameters(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good, _ = fitted("mini", dataclasses.replace(QUICK, steps=2))
    real = training_module.Objective.losses

    def losses(self: Any, step: int) -> Any:
        found = real(self, step)
        return (found[0] * float("nan"), *found[1:]) if step == 3 else found

    monkeypatch.setattr(training_module.Objective, "losses", losses)
    before = state_of(backbone_of("mini"))
    with pytest.raises(TrainingDivergedError, match="diverged at step 3 of 6: the loss is not finite") as caught:
        fitted("mini", checkpoint=tmp_path / "a.pt")
    assert caught.value.step == 3
    assert isinstance(caught.value, NotFiniteError)
    assert not (tmp_path / "a.pt").exists(), "it would diverge there again"
    assert same(caught.value.adapter, good)  # with which step 2, the last finite loss, was computed
    check_same_state(state_of(backbone_of("mini")), before)


def test_rate_far_too_high_is_told_by_the_training_or_stays_finite() -> None:
    try:
        adapter, _ = fitted("mini", dataclasses.replace(QUICK, learning_rate=1e18))
    except TrainingDivergedError as error:
        adapter = error.adapter
    assert all(bool(torch.isfinite(value).all()) for value in adapter.state_dict().values())


# Methods ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [DeT(width=4), DreamBooth(rank=2), InvertedMotion(), InvertedMotion(keep_cells=False)]
)
@pytest.mark.parametrize("name", ["mini", "wan"])
def test_one_call_trains_and_transfers_and_a_fit_serves_any_number_of_prompts(name: str, method: Any) -> None:
    family = FAMILIES[name]
    method = dataclasses.replace(method, training=dataclasses.replace(QUICK, steps=2))
    options = family.options(guided=True, steps=1)
    prompts = [family.prompt, None if family.prompt is None else "a green star moves left over white dots"]
    made = transfer_motion(backbone_of(name), clip_of(name), prompts[0], method=method, on_step=False, **options)
    fit = method.fit(
        backbone_of(name),
        clip_of(name),
        size=tuple(family.size[each] for each in ("height", "width", "images")),
        conditioning={key: value for key, value in options["conditioning"].items() if "prompt" in key},
    )
    again = [
        transfer_motion(backbone_of(name), clip_of(name), prompt, method=fit, on_step=False, **options)
        for prompt in prompts
    ]
    assert again[0].images.shape == made.images.shape
    assert fit.adapter.details["method"] == type(method).__name__
    assert len(fit.adapter.details["losses"]) == 2
    if name == "mini":
        assert (again[0].images == made.images).all()


def test_det_keeps_the_published_share_on_mini_and_all_layers_of_mini_rope() -> None:
    assert DeT().resolve_keep(load_backbone("mini")) == 0.35
    assert DeT().resolve_keep(load_backbone("mini-rope")) == 1.0
    assert DeT(keep=0.5).resolve_keep(load_backbone("mini")) == 0.5


def test_det_keeps_the_first_layers_alone() -> None:
    backbone = backbone_of("cogvideox rotary")
    assert DeT(keep=0.35).new_adapter(backbone).kept(keep=0.35) == (0,)
    assert FittedMotion(new("cogvideox rotary"), keep=0.35).describe(backbone, 10) == (
        "temporal-kernel adapter in 1 of 3 layers"
    )
    with pytest.raises(InvalidInputError, match="keep must lie between 0 and 1"):
        DeT(keep=1.2)


def test_presets_of_det() -> None:
    mini, hunyuan = backbone_of("cogvideox added"), backbone_of("hunyuan")
    assert DeT(preset="paper").resolve_training(mini) == Training(preset="paper")
    det = DeT(preset="det").resolve_training(mini)
    assert (det.weight_decay, det.betas, det.tracking_weight) == (1e-4, (0.9, 0.95), 0.0)
    assert DeT(preset="paper").resolve_training(hunyuan).warm_up == 100
    assert DeT(preset="det").new_adapter(hunyuan).settings["kernel"] == 5
    assert DeT(preset="det", width=4).new_adapter(mini).settings["init"] == "det"


# Bad input and files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [1, 3])
def test_clip_without_motion_is_refused(images: int) -> None:
    clip = Clip(np.zeros((images, 24, 32, 3), np.uint8), 8.0)
    with pytest.raises(ClipError, match="no motion"):
        train_adapter(new(), backbone_of("mini"), clip, QUICK, **options_of("mini"))


def test_settings_that_cannot_be_are_refused() -> None:
    for bad in ({"steps": 0}, {"learning_rate": 0.0}, {"tracking_weight": -1.0}, {"betas": (0.9, 1.0)}):
        with pytest.raises(InvalidInputError):
            Training(**bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="unknown preset"):
        Training(preset="published")  # type: ignore[arg-type]


def test_damaged_files_and_others_are_refused(tmp_path: Path) -> None:
    backbone = backbone_of("mini")
    path = save_adapter(new(), tmp_path / "a.safetensors")
    with pytest.raises(OutputExistsError):
        save_adapter(new(), path)
    with pytest.raises(InvalidInputError, match=r"Name it .*a\.safetensors"):
        save_adapter(new(), tmp_path / "a.pt")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptRecordingError, match="differs from the digest"):
        load_adapter(path, backbone)
    for bad in (content[:100], b"", b"nonsense"):
        path.write_bytes(bad)
        with pytest.raises(CorruptRecordingError, match="holds no motion adapter"):
            load_adapter(path, backbone)
    with pytest.raises(RecordingError, match="it is a folder"):
        load_adapter(tmp_path, backbone)


def test_file_says_what_it_was_made_for(tmp_path: Path) -> None:
    adapter, _ = fitted("mini", dataclasses.replace(QUICK, steps=1))
    adapter.details = {"reference": "ab12"}
    path = save_adapter(adapter, tmp_path / "a.safetensors")
    header = read_adapter_header(path)
    assert header["origin"]["config_hash"] == backbone_of("mini").config_hash
    assert header["details"] == {"reference": "ab12"}
    with safe_open(path, framework="pt") as file:
        assert "config_hash" in json.loads(file.metadata()["ditprobe_motion_adapter"])["origin"]
    with pytest.raises(InvalidInputError, match=r"was trained on .* but .* has layers"):
        load_adapter(path, backbone_of("cogvideox added"))


def test_full_disk_while_an_adapter_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("store.files.tensors.save_file", full)
    with pytest.raises(RecordingError, match=r"cannot be written to .*No space left"):
        save_adapter(new(), tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_encoders_come_back_from_where_they_were_set_aside() -> None:
    backbone = FAMILIES["mini"].backbone()
    with encoders_set_aside(backbone):
        assert backbone.pipeline.vae.device.type == "cpu"
    moved: list[torch.device] = []

    class Part(torch.nn.Linear):
        def to(self, *where: Any, **options: Any) -> Any:
            moved.append(torch.device(where[0]))
            return self

    backbone.pipeline.text_encoder = Part(2, 2, device="meta")
    with encoders_set_aside(backbone):
        assert [each.type for each in moved] == ["cpu"]
    assert [each.type for each in moved] == ["cpu", "meta"]


def test_motion_inversion_goes_by_the_size_of_the_clip(tmp_path: Path) -> None:
    backbone = backbone_of("mini")
    adapter = MotionInversion(backbone, size=(24, 32, 3))  # type: ignore[arg-type]
    loaded = load_adapter(save_adapter(adapter, tmp_path / "a.safetensors"), backbone)
    assert loaded.size == (24, 32, 3)


def test_adapter_and_guidance_at_once() -> None:
    family, backbone = FAMILIES["mini"], backbone_of("mini")
    first, second = AttachAdapter(new()), AttachAdapter(new(seed=1))
    clip = sample(backbone, family.prompt, [first, second], **family.options(steps=1))
    assert (clip.images == backbone.generate(family.prompt, **family.options(steps=1)).images).all()
