"""The bundled backbone: its parts, its weights, and the training that made them."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from probe import load_backbone, run_prompt
from probe.backbone import Backbone
from probe.mini import MiniConfig, load_mini, new_pipeline, save_mini
from probe.mini.model import WEIGHTS
from probe.mini.text import UNKNOWN, WordTokenizer, vocabulary
from probe.mini.train import TrainConfig, main, train
from store import Selection, make_scene
from store.errors import BackboneNotFoundError, InvalidInputError

SMALL = MiniConfig(images=3, height=16, width=24, layers=1, heads=2, channels=16)


@pytest.fixture(scope="module")
def mini() -> Backbone:
    return load_backbone("mini", device="cpu")


def test_it_is_small_and_needs_no_network(mini: Backbone) -> None:
    size = sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file())
    assert size < 15_000_000
    assert mini.name == "mini"
    assert mini.layout(*mini.default_size).spans == tuple(range(image, image + 1) for image in range(5))


def test_encoding_and_decoding_lose_nothing_but_rounding(mini: Backbone) -> None:
    clip = make_scene(8)
    np.testing.assert_array_equal(mini.decode(mini.encode(clip)).images, clip.images)


def test_the_same_seed_generates_the_same_clip(mini: Backbone) -> None:
    prompt = "a red disc moves left over blue stripes"
    first, again = (mini.generate(prompt, seed=3, steps=4).images for _ in range(2))
    other = mini.generate(prompt, seed=4, steps=4).images
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_prompt_changes_what_is_generated(mini: Backbone) -> None:
    red = mini.generate("a red square moves left over blue stripes", seed=3, steps=10).images
    green = mini.generate("a green square moves left over blue stripes", seed=3, steps=10).images
    assert np.abs(red.astype(int) - green).mean() > 1


def test_other_sizes_than_the_trained_one_run(mini: Backbone) -> None:
    assert mini.generate("", steps=1, height=16, width=40, images=3).images.shape == (3, 16, 40, 3)


def test_every_scene_prompt_is_known_to_the_tokenizer() -> None:
    tokenizer = load_mini().tokenizer
    assert set(vocabulary()) == set(tokenizer.words)
    unknown = tokenizer.index[UNKNOWN]
    for seed in range(100):
        prompt = make_scene(seed).prompt
        ids = tokenizer(prompt).input_ids
        assert (ids != unknown).all()
        assert tokenizer.decode(ids[0]) == prompt


def test_the_tokenizer_pads_cuts_and_says_what_it_does_not_know() -> None:
    tokenizer = WordTokenizer(("<pad>", "<unknown>", "red", "disc"), 4)
    assert tokenizer(["red purpel", "disc"]).input_ids.tolist() == [[2, 1, 0, 0], [3, 0, 0, 0]]
    assert tokenizer("red red", padding="longest").input_ids.tolist() == [[2, 2]]
    assert tokenizer("red " * 9, max_length=226).input_ids.shape == (1, 4)
    assert tokenizer("").attention_mask.sum() == 0


def test_save_and_load_give_the_same_model(tmp_path: Path) -> None:
    torch.manual_seed(1)
    pipeline = new_pipeline(SMALL)
    save_mini(pipeline, tmp_path)
    loaded = load_backbone(tmp_path, device="cpu")
    for name, value in pipeline.transformer.state_dict().items():
        torch.testing.assert_close(loaded.pipeline.transformer.state_dict()[name], value, rtol=0, atol=0)
    assert loaded.default_size == (16, 24, 3)
    assert load_backbone(tmp_path, device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneNotFoundError, match="tokenizer, scheduler, text_encoder, vae, transformer missing"):
        load_mini(tmp_path)
    with pytest.raises(InvalidInputError, match=r"words\.json is missing"):
        WordTokenizer.from_pretrained(tmp_path)


def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    config = TrainConfig(steps=4, batch=2, warm_up=1)

    def weights(folder: Path) -> dict[str, torch.Tensor]:
        return load_file(folder / "weights" / "transformer" / "diffusion_pytorch_model.safetensors")

    train(tmp_path / "whole", SMALL, config, device="cpu", workers=0, save_every=2)
    calls = []

    class Stopped(Exception):
        pass

    def stop(step: int) -> None:
        calls.append(step)
        if step == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train(tmp_path / "parts", SMALL, config, device="cpu", workers=0, save_every=2, on_save=stop)
    train(tmp_path / "parts", SMALL, config, device="cpu", workers=0, save_every=2, on_save=calls.append)
    assert calls == [2, 4]
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=0, atol=0)
    log = (tmp_path / "parts" / "log.csv").read_text().splitlines()
    assert log[0] == "step,loss,learning_rate,seconds"
    assert [line.split(",")[0] for line in log[1:]] == ["2", "4"]


def trained(folder: Path, **changed: object) -> Path:
    """One of ten planned steps, the last three of which have a falling rate."""
    config = TrainConfig(**{"steps": 10, "batch": 1, "warm_up": 1, **changed})
    return train(folder, SMALL, config, device="cpu", workers=0, save_every=1, on_save=stop_after(folder))


class Stopped(Exception):
    """Ends a training."""


def stop_after(folder: Path, steps: int = 1) -> object:
    def stop(step: int) -> None:
        if step == steps:
            raise Stopped

    return stop


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    with pytest.raises(Stopped):
        trained(tmp_path)
    return tmp_path


def refused(folder: Path, **changed: object) -> str:
    before = (folder / "checkpoint.pt").read_bytes()
    with pytest.raises(InvalidInputError) as caught:
        trained(folder, **changed)
    assert (folder / "checkpoint.pt").read_bytes() == before
    return str(caught.value).removeprefix(str(folder / "checkpoint.pt"))


def test_training_goes_on_with_the_same_settings_only(begun: Path) -> None:
    assert refused(begun, batch=2, optimiser="adamw") == (
        " was trained with other settings: batch was 1, now 2; optimiser was 'muon', now 'adamw'. Go on with the same "
        "ones, or train into another folder."
    )
    with pytest.raises(InvalidInputError, match="channels was 16, now 8"):
        train(begun, dataclasses.replace(SMALL, channels=8), TrainConfig(steps=10, batch=1, warm_up=1), device="cpu")


def test_the_number_of_steps_changes_only_while_the_rate_is_constant(begun: Path, tmp_path: Path) -> None:
    state = torch.load(begun / "checkpoint.pt", weights_only=True)
    for done in (2, 7, 8, 10):
        folder = tmp_path / str(done)
        folder.mkdir()
        torch.save({**state, "step": done}, folder / "checkpoint.pt")
    rest = "falls over the last 30% of the steps. Go on with steps=10, or train into another folder."
    assert refused(tmp_path / "8", steps=20) == (
        " has 8 steps of a training of 10; it cannot become one of 20, whose learning rate is another after step 7: "
        f"it {rest}"
    )
    assert refused(tmp_path / "7", steps=9).endswith(f"after step 6: it {rest}")
    assert refused(tmp_path / "8", steps=5) == (
        " has 8 steps already; steps=5 is less. Go on with steps=10, or train into another folder."
    )
    assert refused(tmp_path / "10", steps=20).startswith(" has 10 steps of a training of 10; it cannot become one")
    with pytest.raises(InvalidInputError, match="has 10 steps of"):
        trained(tmp_path / "10", steps=11)
    train(tmp_path / "2", SMALL, TrainConfig(steps=3, batch=1, warm_up=1), device="cpu", workers=0)
    assert torch.load(tmp_path / "2" / "checkpoint.pt", weights_only=True)["settings"]["steps"] == 3


def test_a_changed_number_of_steps_gives_the_weights_of_an_uninterrupted_training(tmp_path: Path) -> None:
    config = TrainConfig(steps=8, batch=1, warm_up=1, seed=3)
    with pytest.raises(Stopped):
        trained(tmp_path / "parts", seed=3)
    train(tmp_path / "parts", SMALL, config, device="cpu", workers=0)
    train(tmp_path / "whole", SMALL, config, device="cpu", workers=0)
    parts, whole = (load_file(next((tmp_path / n).rglob("transformer/*.safetensors"))) for n in ("parts", "whole"))
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=0, atol=0)


def test_a_finished_training_says_so_and_keeps_its_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = TrainConfig(steps=2, batch=1, warm_up=1)
    weights = train(tmp_path, SMALL, config, device="cpu", workers=0)
    first = load_file(next(weights.rglob("transformer/*.safetensors")))
    shutil.rmtree(weights)
    capsys.readouterr()
    assert train(tmp_path, SMALL, config, device="cpu", workers=0) == weights
    assert capsys.readouterr().out == f"{tmp_path} has all 2 steps already: nothing left to train.\n"
    for name, value in load_file(next(weights.rglob("transformer/*.safetensors"))).items():
        torch.testing.assert_close(value, first[name], rtol=0, atol=0)


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
    assert refused(begun) == " is damaged or no checkpoint. Remove it or train into another folder."


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--steps", "0"), 2, "error: steps must be at least 1; got 0."),
        (("--batch", "0"), 2, "error: batch must be at least 1; got 0."),
        (("--seed", "-1"), 2, "error: seed must be at least 0; got -1."),
        (("--learning-rate", "nan"), 2, "error: learning_rate must be above 0; got nan."),
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

    monkeypatch.setattr("probe.mini.train.train", stopped)
    assert main(["--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "interrupted. The same command goes on from the last checkpoint.\n"


def test_one_clip_is_made_from_one_prompt(mini: Backbone) -> None:
    message = r"^generate makes one clip from one prompt; got a list of 2\. Call it once for each prompt\.$"
    with pytest.raises(InvalidInputError, match=message):
        mini.generate(["a", "b"], steps=1)
    with pytest.raises(InvalidInputError, match=message):
        mini.generate("a", negative_prompt=["b", "c"], steps=1)
    with pytest.raises(InvalidInputError, match=message):
        run_prompt(mini, ["a", "b"], Selection([0], [0]), [].append, steps=1)


@pytest.mark.parametrize("steps", [0, 1001])
def test_a_number_of_steps_that_the_scheduler_has_not_is_refused(mini: Backbone, steps: int) -> None:
    message = {
        0: r"^a run needs at least 1 step; got steps=0\.$",
        1001: r"^a run of 1001 steps was asked for; CogVideoXDDIMScheduler has 1000 timesteps, so at most steps=1000",
    }[steps]
    for run in (mini.schedule, mini.sigmas, lambda n: mini.generate("a", steps=n)):
        with pytest.raises(InvalidInputError, match=message):
            run(steps)
    assert len(mini.schedule(1000)) == 1000


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    train(tmp_path, SMALL, TrainConfig(steps=40, batch=4, warm_up=5), device="cpu", workers=0, save_every=10)
    losses = [float(line.split(",")[1]) for line in (tmp_path / "log.csv").read_text().splitlines()[1:]]
    assert losses[-1] < 0.8 * losses[0]
