"""The training of the bundled backbones: what a step sees, stopping and going on, and what is rejected."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import scaled_dot_product_attention

from probe import load_backbone
from probe.mini import MiniConfig, load_mini, new_pipeline, save_mini
from probe.mini.training.objective import PlainAttention, Scenes, velocity_loss
from probe.mini.training.schedule import TrainConfig
from probe.mini.training.state import TrainingState
from probe.mini.training.train import main, train
from store import make_scene
from store.errors import InvalidInputError
from store.scenes.prompt import parse_prompt, scene_words
from store.scenes.scene import FIRST_TRAINING_SEED

SMALL = MiniConfig(images=3, height=16, width=24, layers=1, heads=2, channels=16)


def config_of(**chosen: object) -> TrainConfig:
    """Settings that do not follow the defaults: clips grow after 35 and 55 of 100 steps, the rate falls after 70."""
    fixed = {"small": 0.35, "medium": 0.2, "wide": 0.3, "decay": 0.3, "warm_up": 1}
    fixed |= {"small_exponent": 0.5, "exponent": 1.5}
    return TrainConfig(**{**fixed, **chosen})


class Stopped(Exception):
    """Ends a training."""


def stop_after(steps: int) -> object:
    def stop(step: int) -> None:
        if step == steps:
            raise Stopped

    return stop


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All trained tensors that a training saved."""
    parts = ("transformer/diffusion_pytorch_model", "text_encoder/model")
    found = {part: load_file(folder / "weights" / f"{part}.safetensors") for part in parts}
    return {f"{part} {name}": value for part, tensors in found.items() for name, value in tensors.items()}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


# What a step sees --------------------------------------------------------------------------------------------------


def test_clips_grow_and_some_of_the_last_are_not_square() -> None:
    config = config_of(steps=1000)
    sizes = [config.size(step, 40, 40) for step in range(1000)]
    assert set(sizes[:350]) == {(24, 24)}
    assert set(sizes[350:550]) == {(32, 32)}
    last = sizes[550:]
    assert set(last) == {(40, 40), (32, 48), (48, 32)}
    for wide in ((32, 48), (48, 32)):
        assert last.count(wide) / len(last) == pytest.approx(0.15, abs=0.05)


def test_clips_are_whole_cells_whatever_their_size() -> None:
    config = config_of(steps=20, wide=1.0)
    for step in range(20):
        for length in config.size(step, 52, 36):
            assert length % 4 == 0
    assert config.size(0, 4, 4) == (4, 4)


def test_before_the_settings_depend_on_the_steps_they_do_not() -> None:
    shorter, longer = config_of(steps=100), config_of(steps=300)
    constant = min(shorter.constant_until, longer.constant_until)
    assert constant == 35
    for step in range(constant):
        assert shorter.rate(step) == longer.rate(step)
        assert shorter.size(step, 40, 40) == longer.size(step, 40, 40)
    assert shorter.size(constant, 40, 40) != longer.size(constant, 40, 40)
    assert config_of(steps=100, small=0.0).constant_until == 20
    assert config_of(steps=100, small=0.0, medium=0.0).constant_until == 70


def test_a_batch_holds_scenes_of_training_seeds_of_that_size_that_never_repeat() -> None:
    config = config_of(steps=4, batch=3, seed=2, prompt_dropout=0.0, wide=0.0)
    scenes = Scenes(SMALL, config)
    seen = []
    for step, (height, width) in enumerate([(8, 16), (8, 16), (12, 20), (16, 24)]):
        images, prompts = scenes[step]
        assert images.shape == (3, 3, height, width, 3)
        first = FIRST_TRAINING_SEED + 2 * 2**32 + 3 * step
        expected = [make_scene(first + index, 3, height, width) for index in range(3)]
        np.testing.assert_array_equal(images, np.stack([clip.images for clip in expected]))
        assert prompts == [clip.prompt for clip in expected]
        seen += prompts
    assert len(set(seen)) == len(seen)


def test_a_share_of_the_prompts_is_left_out() -> None:
    config = config_of(steps=40, batch=10, prompt_dropout=0.25)
    tiny = dataclasses.replace(SMALL, images=1, height=4, width=4)
    prompts = [prompt for step in range(40) for prompt in Scenes(tiny, config)[step][1]]
    assert prompts.count("") / len(prompts) == pytest.approx(0.25, abs=0.07)
    assert all(prompts == [""] * 10 for _, prompts in [Scenes(tiny, dataclasses.replace(config, prompt_dropout=1))[0]])


def test_single_images_come_first_and_then_now_and_again() -> None:
    config = config_of(steps=200, batch=2, stills=0.25, stills_later=0.5, still_batch=5)
    seen = [config.sees_stills(step) for step in range(200)]
    assert all(seen[:50])
    assert np.mean(seen[50:]) == pytest.approx(0.5, abs=0.12)
    scenes = Scenes(SMALL, config)
    for step in (0, seen.index(False), 50 + seen[50:].index(True)):
        count, images = (5, 1) if seen[step] else (2, 3)
        assert scenes[step][0].shape[:2] == (count, images)
    assert config.size(50 + seen[50:].index(True), 16, 24) == (16, 24)
    assert config.constant_until == 50


def test_prompts_leave_parts_open_and_some_paths_bend() -> None:
    config = config_of(steps=40, batch=10, prompt_dropout=0.0, left_open=0.3, bent=0.5)
    tiny = dataclasses.replace(SMALL, images=3, height=4, width=4)
    found = [parse_prompt(prompt) for step in range(40) for prompt in Scenes(tiny, config)[step][1]]
    for part in ("motion", "shape", "pattern"):
        assert np.mean([part in words.left_open for words in found]) == pytest.approx(0.3, abs=0.07)
    assert any(len(words.left_open) > 2 for words in found)
    straight = Scenes(tiny, dataclasses.replace(config, bent=0.0))
    pairs = [(Scenes(tiny, config)[step][0], straight[step][0]) for step in range(4)]
    same = [torch.equal(bent[i], plain[i]) for bent, plain in pairs for i in range(10)]
    assert 0.3 < np.mean(same) < 0.8


def test_timesteps_lean_towards_noise_as_the_exponent_of_the_stage_says() -> None:
    config, uniform = config_of(steps=100), torch.tensor([0.0, 0.05, 0.3, 0.8, 0.9999])
    for step in (0, 34):
        assert config.timesteps(step, uniform).tolist() == [0, 223, 547, 894, 999]
    for step in (35, 55, 99):
        assert config.timesteps(step, uniform).tolist() == [0, 11, 164, 715, 999]


@pytest.mark.parametrize(("step", "exponent"), [(0, 0.5), (3, 1.5)])
@pytest.mark.parametrize("rotary", [False, True])
def test_the_loss_of_a_model_that_predicts_nothing_is_the_variance_of_the_velocity(
    rotary: bool, step: int, exponent: float
) -> None:
    torch.manual_seed(0)
    pipeline = new_pipeline(dataclasses.replace(SMALL, rotary=rotary))
    torch.nn.init.zeros_(pipeline.transformer.proj_out.weight)
    torch.nn.init.zeros_(pipeline.transformer.proj_out.bias)
    config = config_of(steps=4, batch=4)
    images, prompts = Scenes(SMALL, config)[step]
    generator = torch.Generator().manual_seed(step)
    latents = 2 * pipeline.vae.encode(images.permute(0, 4, 1, 2, 3) / 127.5 - 1).latent_dist.mode().transpose(1, 2)
    noise = torch.randn(latents.shape, generator=generator)
    timesteps = (1000 * torch.rand(4, generator=generator) ** exponent).long()
    signal = pipeline.scheduler.alphas_cumprod[timesteps].reshape(-1, 1, 1, 1, 1)
    velocity = signal.sqrt() * noise - (1 - signal).sqrt() * latents
    torch.testing.assert_close(
        velocity_loss(pipeline, (images, prompts), step, config), velocity.square().mean().float()
    )


def positions_of_step(pipeline: Any, mini: MiniConfig, config: TrainConfig, step: int) -> torch.Tensor:
    """(frame, y, x, channel): what the model is told of the places of the cells in the loss of a step."""
    batch = Scenes(mini, config)[step]
    frames, height, width = batch[0].shape[1:4]
    told: list[torch.Tensor] = []

    def keep_rotary(module: object, args: object, given: dict[str, Any]) -> None:
        told.append(torch.cat(given["image_rotary_emb"], -1))

    def keep_added(module: object, args: object, tokens: torch.Tensor) -> None:
        told.append(tokens[0, mini.text_tokens :])

    transformer = pipeline.transformer
    if mini.rotary:
        handle = transformer.register_forward_pre_hook(keep_rotary, with_kwargs=True)
    else:
        for part in (transformer.patch_embed.proj, transformer.patch_embed.text_proj):
            torch.nn.init.zeros_(part.weight)  # so that the tokens are their positions
            torch.nn.init.zeros_(part.bias)
        handle = transformer.patch_embed.register_forward_hook(keep_added)
    velocity_loss(pipeline, batch, step, config)
    handle.remove()
    (positions,) = told
    return positions.detach().float().reshape(frames, height // 4, width // 4, -1)


@pytest.mark.parametrize("rotary", [False, True])
def test_cells_of_smaller_clips_stand_apart_so_that_they_span_the_final_picture(rotary: bool) -> None:
    mini = MiniConfig(images=2, layers=1, heads=2, channels=16, rotary=rotary)
    pipeline, config = new_pipeline(mini), config_of(steps=10, batch=1, wide=0.0)
    small, medium, full = (positions_of_step(pipeline, mini, config, step) for step in (0, 4, 9))
    assert [len(positions[0]) for positions in (small, medium, full)] == [6, 8, 10]
    # 3 cells of a clip of 0.6 times the size, and 4 of 0.8 times, are 5 of the full one; sums of bfloat16 are coarse
    for positions, half in ((small, 3), (medium, 4)):
        for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
            expected = full[:, 5 * y, 5 * x]
            torch.testing.assert_close(positions[:, half * y, half * x], expected, rtol=0.0, atol=0.01)
        assert (positions[:, 1, 1] - full[:, 1, 1]).abs().max() > 0.1
    assert (full[:, 0, 5] - full[:, 5, 0]).abs().max() > 0.1


def test_after_the_smaller_clips_the_cells_stand_one_apart_again() -> None:
    mini = dataclasses.replace(SMALL, height=40, width=40)
    pipeline, config = new_pipeline(mini), config_of(steps=10, batch=1, wide=1.0)
    untouched = new_pipeline(mini).transformer.patch_embed
    scales = []
    for step in (0, 4, 6, 9):
        found = positions_of_step(pipeline, mini, config, step)
        scales.append(pipeline.transformer.patch_embed.spatial_interpolation_scale)
    assert scales == [0.6, 0.8, 1.0, 1.0]
    assert found.shape[1] != found.shape[2]
    expected = untouched.pos_embedding[0, mini.text_tokens :].reshape(3, 10, 10, -1).float()
    torch.testing.assert_close(found[:, :8, :8], expected[:, :8, :8], rtol=0.0, atol=0.01)


def test_plain_attention_is_attention_within_the_rounding_of_bfloat16() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 70, 32, generator=generator).bfloat16().requires_grad_() for _ in range(3))
    expected = scaled_dot_product_attention(query.double(), key.double(), value.double())
    with torch.autocast("cpu", torch.bfloat16), PlainAttention():
        found = scaled_dot_product_attention(query.float(), key, value, attn_mask=None, dropout_p=0.0, is_causal=False)
    assert found.dtype == torch.bfloat16
    # eight bits of mantissa: scores up to about 5 are off by 0.02, and so are the weights in proportion
    torch.testing.assert_close(found.double(), expected, rtol=0.0, atol=0.03)
    weights = torch.randn(found.shape, generator=generator)
    gradients = torch.autograd.grad((found.double() * weights).sum(), (query, key, value))
    truth = torch.autograd.grad((expected * weights).sum(), (query, key, value))
    for one, other in zip(gradients, truth, strict=True):
        assert (one - other).norm() < 0.02 * other.norm()


# Stopping and going on ---------------------------------------------------------------------------------------------


def test_a_stopped_training_goes_on_to_the_same_weights_although_the_clips_grow(tmp_path: Path) -> None:
    config = config_of(steps=6, batch=2, wide=1.0)
    sizes = [config.size(step, 16, 24) for step in range(6)]
    assert len(set(sizes[:3])) == 1
    assert len(set(sizes[3:]) - set(sizes[:3])) >= 2
    how = {"device": "cpu", "workers": 0, "save_every": 3}
    train(tmp_path / "whole", SMALL, config, **how)
    with pytest.raises(Stopped):
        train(tmp_path / "parts", SMALL, config, on_save=stop_after(3), **how)
    half = weights(tmp_path / "parts")
    saved: list[int] = []
    train(tmp_path / "parts", SMALL, config, on_save=saved.append, **how)
    assert saved == [6]
    assert_same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))
    assert any(not torch.equal(value, half[name]) for name, value in weights(tmp_path / "parts").items())
    log = (tmp_path / "parts" / "log.csv").read_text().splitlines()
    assert log[0] == "step,loss,learning_rate,seconds"
    assert [line.split(",")[0] for line in log[1:]] == ["3", "6"]


def test_what_a_training_saves_is_a_backbone_that_takes_prompts(tmp_path: Path) -> None:
    config = config_of(steps=1, batch=1)
    folder = train(tmp_path, dataclasses.replace(SMALL, rotary=True), config, device="cpu", workers=0)
    assert folder == tmp_path / "weights"
    backbone = load_backbone(folder, device="cpu")
    assert backbone.default_size == (16, 24, 3)
    assert backbone.pipeline.transformer.config.use_rotary_positional_embeddings
    assert len(backbone.generate("a red disc moves left over blue stripes", steps=1)) == 3


def test_the_saved_weights_are_averages(tmp_path: Path) -> None:
    """With a decay of 0 the average is the last value, so it differs from that of a slow one."""
    for decay in (0.0, 0.999):
        config = config_of(steps=3, batch=1, ema=decay)
        train(tmp_path / str(decay), SMALL, config, device="cpu", workers=0)
    last = torch.load(tmp_path / "0.0" / "checkpoint.pt", weights_only=True)["transformer"]
    key = "proj_out.weight"
    assert torch.equal(load_mini(tmp_path / "0.0" / "weights").transformer.state_dict()[key], last[key])
    assert not torch.equal(load_mini(tmp_path / "0.999" / "weights").transformer.state_dict()[key], last[key])


def trained(folder: Path, **changed: object) -> Path:
    """One of ten planned steps; clips grow after the third, the rate falls after the seventh."""
    config = config_of(**{"steps": 10, "batch": 1, **changed})
    return train(folder, SMALL, config, device="cpu", workers=0, save_every=1, on_save=stop_after(1))


@pytest.fixture(scope="module")
def one_step(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("begun")
    with pytest.raises(Stopped):
        trained(folder)
    return folder


@pytest.fixture
def begun(one_step: Path, tmp_path: Path) -> Path:
    """A folder with the checkpoint of a training that was stopped after a step."""
    shutil.copy(one_step / "checkpoint.pt", tmp_path / "checkpoint.pt")
    return tmp_path


def refused(folder: Path, **changed: object) -> str:
    before = (folder / "checkpoint.pt").read_bytes()
    with pytest.raises(InvalidInputError) as caught:
        trained(folder, **changed)
    assert (folder / "checkpoint.pt").read_bytes() == before
    return str(caught.value).removeprefix(str(folder / "checkpoint.pt"))


def test_training_goes_on_with_the_same_settings_only(begun: Path) -> None:
    assert refused(begun, batch=2, optimiser="adamw") == (
        " was trained with other settings: batch was 1, now 2; optimiser was 'muon', now 'adamw'. Continue with the "
        "same ones, or train into another folder."
    )
    assert "wide was 0.3, now 0.0" in refused(begun, wide=0.0)
    for changed, message in ({"channels": 8}, "channels was 16, now 8"), ({"rotary": True}, "rotary was False, now Tr"):
        with pytest.raises(InvalidInputError, match=message):
            train(begun, dataclasses.replace(SMALL, **changed), config_of(steps=10, batch=1), device="cpu")


def test_the_number_of_steps_changes_only_while_nothing_depends_on_it(begun: Path, tmp_path: Path) -> None:
    state = torch.load(begun / "checkpoint.pt", weights_only=True)
    for done in (2, 3, 4, 10):
        folder = tmp_path / str(done)
        folder.mkdir()
        torch.save({**state, "step": done}, folder / "checkpoint.pt")
    assert refused(tmp_path / "4", steps=20) == (
        " has 4 steps of a training of 10; in one of 20 the learning rate or the size of the clips would have been "
        "another after step 3. Continue with steps=10, or train into another folder."
    )
    assert "after step 2" in refused(tmp_path / "3", steps=8)
    assert refused(tmp_path / "4", steps=3) == (
        " has 4 steps already; steps=3 is less. Continue with steps=10, or train into another folder."
    )
    assert "would have been another after step 3" in refused(tmp_path / "10", steps=20)
    train(tmp_path / "2", SMALL, config_of(steps=6, batch=1), device="cpu", workers=0)
    assert torch.load(tmp_path / "2" / "checkpoint.pt", weights_only=True)["settings"]["steps"] == 6


def test_a_changed_number_of_steps_gives_the_weights_of_an_uninterrupted_training(tmp_path: Path) -> None:
    config = config_of(steps=8, batch=1, seed=3)
    with pytest.raises(Stopped):
        trained(tmp_path / "parts", seed=3)
    train(tmp_path / "parts", SMALL, config, device="cpu", workers=0)
    train(tmp_path / "whole", SMALL, config, device="cpu", workers=0)
    assert_same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))


def test_a_training_begins_with_the_weights_of_another_and_no_longer_needs_them(tmp_path: Path) -> None:
    before = train(tmp_path / "before", SMALL, config_of(steps=2, batch=1), device="cpu", workers=0)
    onward = config_of(steps=4, batch=1, seed=1, small=0.0, medium=0.0, start_from=str(before))
    still = dataclasses.replace(onward, learning_rate=1e-30, weight_decay=0.0)
    train(tmp_path / "still", SMALL, still, device="cpu", workers=0)
    assert_same(weights(tmp_path / "still"), weights(tmp_path / "before"))
    train(tmp_path / "whole", SMALL, onward, device="cpu", workers=0)
    with pytest.raises(Stopped):
        train(tmp_path / "twice", SMALL, onward, device="cpu", workers=0, save_every=2, on_save=stop_after(2))
    shutil.rmtree(tmp_path / "before")
    train(tmp_path / "twice", SMALL, onward, device="cpu", workers=0)
    assert_same(weights(tmp_path / "twice"), weights(tmp_path / "whole"))


def test_a_training_takes_over_words_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = tuple(word for word in scene_words() if word != "object")
    with monkeypatch.context() as patched:
        patched.setattr("probe.mini.text.scene_words", lambda: fewer)
        torch.manual_seed(7)
        before: Any = new_pipeline(SMALL)
    save_mini(before, tmp_path / "before")
    state = TrainingState.new(SMALL, config_of(steps=1), torch.device("cpu"))
    new = state.pipeline.tokenizer.convert_tokens_to_ids("object")
    random = state.pipeline.text_encoder.get_input_embeddings().weight[new].clone()
    state.start_from(str(tmp_path / "before"))

    def embeddings(pipeline: Any, word: str) -> torch.Tensor:
        return pipeline.text_encoder.get_input_embeddings().weight[pipeline.tokenizer.convert_tokens_to_ids(word)]

    for word in ("red", "star", "zooms"):
        assert torch.equal(embeddings(state.pipeline, word), embeddings(before, word))
    assert torch.equal(embeddings(state.pipeline, "object"), random)


def test_a_training_begins_with_no_other_kind_of_backbone(one_step: Path, tmp_path: Path) -> None:
    config = config_of(steps=2, start_from=str(one_step / "weights"))
    with pytest.raises(InvalidInputError) as rejected:
        train(tmp_path / "other", dataclasses.replace(SMALL, layers=2, rotary=True), config, device="cpu", workers=0)
    assert str(rejected.value) == (
        f"this training cannot start from {one_step / 'weights'}: its num_layers is 1, not 2."
    )


def test_a_finished_training_says_so_and_keeps_its_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_of(steps=2, batch=1)
    folder = train(tmp_path, SMALL, config, device="cpu", workers=0)
    first = weights(tmp_path)
    shutil.rmtree(folder)
    capsys.readouterr()
    assert train(tmp_path, SMALL, config, device="cpu", workers=0) == folder
    assert capsys.readouterr().out == f"{tmp_path} has all 2 steps already: nothing left to train.\n"
    assert_same(weights(tmp_path), first)


def test_a_checkpoint_without_settings_or_damaged_is_refused(begun: Path) -> None:
    path = begun / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    del state["settings"]
    torch.save(state, path)
    assert refused(begun) == (
        " was written before checkpoints kept their settings, so whether they are the same is unknown. Train into "
        "another folder."
    )
    path.write_bytes(b"nothing")
    message = refused(begun)
    assert message.startswith(" is damaged or not a checkpoint: ")
    assert message.endswith(". Remove it or train into another folder.")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"small": 1.5}, "small must lie between 0 and 1; got 1.5."),
        ({"wide": -0.1}, "wide must lie between 0 and 1; got -0.1."),
        ({"small_exponent": 0.0}, "small_exponent must be above 0; got 0."),
        ({"exponent": float("inf")}, "exponent must be a finite number; got inf."),
        ({"still_exponent": 0.0}, "still_exponent must be above 0; got 0."),
        ({"ease_in": -1}, "ease_in must be at least 0; got -1."),
        ({"optimiser": "sgd"}, "unknown optimiser 'sgd'. Known: 'muon', 'adamw'."),
    ],
)
def test_bad_settings_are_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        TrainConfig(**changed)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--steps", "0"), 2, "error: steps must be at least 1; got 0."),
        (("--batch", "0"), 2, "error: batch must be at least 1; got 0."),
        (("--seed", "-1"), 2, "error: seed must be at least 0; got -1."),
        (("--learning-rate", "nan"), 2, "error: learning_rate must be a finite number; got nan."),
        (("--workers", "-1"), 2, "error: workers must be at least 0; got -1."),
        (("--save-every", "0"), 2, "error: save_every must be at least 1; got 0."),
        (("--device", "foo"), 2, "error: device 'foo' is unknown. Available here: cpu."),
    ],
)
def test_bad_settings_of_the_training_are_one_line(
    words: tuple[str, ...], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--device" in words and torch.cuda.is_available():
        pytest.skip("has a GPU")
    out = tmp_path / "out"
    assert main(["--out", str(out), *words]) == code
    assert capsys.readouterr() == ("", f"{message}\n")
    assert not out.exists()


def test_a_training_that_cannot_write_or_is_stopped_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    assert main(["--out", str(file), "--device", "cpu"]) == 1
    assert capsys.readouterr().err.startswith("error: [Errno ")

    def stopped(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("probe.mini.training.train.train", stopped)
    assert main(["--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "interrupted. The same command resumes from the last checkpoint.\n"


def test_the_command_chooses_the_positions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[MiniConfig] = []
    monkeypatch.setattr("probe.mini.training.train.train", lambda out, mini, config, **how: chosen.append(mini))
    assert main(["--out", str(tmp_path)]) == main(["--out", str(tmp_path), "--rotary"]) == 0
    assert chosen == [MiniConfig(), MiniConfig(rotary=True)]


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    config = config_of(steps=40, batch=4, warm_up=5, small=0.0, medium=0.0, wide=0.0)
    train(tmp_path, SMALL, config, device="cpu", workers=0, save_every=10)
    losses = [float(line.split(",")[1]) for line in (tmp_path / "log.csv").read_text().splitlines()[1:]]
    assert losses[-1] < 0.8 * losses[0]
