"""Backbones without their weights, and how long their calls would take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_pipelines as tiny
import torch

from probe import load_backbone
from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from probe.loading.options import Loading
from probe.loading.planning import plan_backbone
from probe.loading.sources import find_index
from probe.run.forward import ForwardPass
from probe.run.timing import TRIED_TOKENS, CallTime, all_tokens, smaller_size, time_call
from store.errors import BackboneNotFoundError, UnsupportedBackboneError

MADE = {
    "cogvideox": tiny.cogvideox,
    "image to video": lambda: tiny.cogvideox(image_to_video=True),
    "wan": tiny.wan,
    "hunyuan video": tiny.hunyuan_video,
}


@pytest.fixture(params=MADE)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    MADE[request.param]().save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_plan_needs_the_configuration_alone_and_says_what_the_model_would(folder: Path) -> None:
    loaded = load_backbone(folder, device="cpu")
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    planned = plan_backbone(folder)
    assert {parameter.device.type for parameter in planned.denoisers[0].parameters()} == {"meta"}
    assert planned.layers == loaded.layers
    assert planned.config_hash == loaded.config_hash
    assert planned.default_size == loaded.default_size
    assert planned.layout(80, 112, 9) == loaded.layout(80, 112, 9)
    assert planned.schedule(5) == loaded.schedule(5)
    assert planned.name == str(folder)


def test_a_planned_backbone_is_timed_without_being_called(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.Module, "__call__", lambda *_: pytest.fail("the model was called"))
    found = time_call(plan_backbone(folder), Size(80, 112, 9))
    assert found.fixed == 0
    assert found.linear > 0
    assert found.quadratic > 0


def test_what_cannot_be_planned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneNotFoundError, match="is not a pipeline: it has no model_index"):
        plan_backbone(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(UnsupportedBackboneError, match="FluxPipeline cannot be probed"):
        plan_backbone(tmp_path)


def test_a_broken_configuration_is_told_in_words(tmp_path: Path) -> None:
    tiny.cogvideox().save_pretrained(tmp_path)
    (tmp_path / "transformer" / "config.json").unlink()
    with pytest.raises(BackboneNotFoundError, match=r"the configuration of the pipeline .* could not be read: "):
        plan_backbone(tmp_path)


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def unreachable(url: str, **_: Any) -> None:
        asked.append(url)
        raise ConnectionError("Network is unreachable")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", unreachable)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("asked again"))
    with pytest.raises(BackboneNotFoundError) as error:
        find_index("nobody/nothing", Loading())
    assert len(asked) == 1
    assert "nobody/nothing" in asked[0]
    assert str(error.value).startswith("the pipeline 'nobody/nothing' could not be loaded: Network is unreachable. ")
    assert str(error.value).endswith("what was downloaded before loads with local_files_only=True.")


def test_a_large_call_is_estimated_from_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    mini = load_backbone("mini", device="cpu")
    called = []
    real = ForwardPass.predict

    def counted(self: ForwardPass, latents: torch.Tensor, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        called.append(latents.numel() // latents.shape[2] // 4 + mini.text_tokens())
        return real(self, latents, *args, **kwargs)

    monkeypatch.setattr(ForwardPass, "predict", counted)
    large = Size(720, 1280, 6)
    tokens = all_tokens(mini.layout(*large))
    found = time_call(mini, large, "")
    assert max(called) <= TRIED_TOKENS[-1] + mini.text_tokens()
    assert tokens > 100 * max(called)
    assert found.seconds(tokens) > 100 * found.seconds(max(called))
    assert "scaled as n (6 x 128 + n)" in found.how


@pytest.mark.parametrize("size", [Size(480, 720, 6), Size(40, 40, 6), Size(8, 2000, 3), Size(720, 1280, 49)])
def test_the_sizes_that_are_tried_are_small_and_fit(size: Size) -> None:
    mini: Backbone = load_backbone("mini", device="cpu")
    for tokens in TRIED_TOKENS:
        tried = smaller_size(mini, size, tokens)
        mini.check_size(*tried)
        assert mini.layout(*tried).video_tokens <= 1.5 * tokens
        assert tried.images <= size.images


def test_calls_are_scaled_linearly_and_with_the_square_of_the_tokens() -> None:
    found = CallTime(fixed=1.0, linear=0.5, quadratic=0.25, how="")
    assert [found.seconds(n) for n in (0, 2, 4)] == [1.0, 3.0, 7.0]


@pytest.mark.parametrize("fixed", [0.0, 0.02])
def test_two_measured_calls_give_back_the_law_that_they_follow(fixed: float) -> None:
    from probe.run import timing

    law = CallTime(fixed, 6 * 128 * 1e-7, 1e-7, "")
    found = timing._fitted([(n, law.seconds(n)) for n in (340, 1200)], 128)
    assert found.seconds(60_000) == pytest.approx(law.seconds(60_000))
    assert timing._fitted([(340, 0.1)], 128).seconds(340) == pytest.approx(0.1)
