"""The bundled backbone: its parts, its weights, and the training that made them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from probe import load_backbone
from probe.backbone import Backbone
from probe.mini import MiniConfig, load_mini, new_pipeline, save_mini
from probe.mini.model import WEIGHTS
from probe.mini.text import UNKNOWN, WordTokenizer, vocabulary
from probe.mini.train import TrainConfig, train
from store import make_scene
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


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    train(tmp_path, SMALL, TrainConfig(steps=40, batch=4, warm_up=5), device="cpu", workers=0, save_every=10)
    losses = [float(line.split(",")[1]) for line in (tmp_path / "log.csv").read_text().splitlines()[1:]]
    assert losses[-1] < 0.8 * losses[0]
