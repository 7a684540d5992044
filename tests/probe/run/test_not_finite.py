"""What is not finite ends a run with the step and never becomes a black clip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from generators import Strategy, sample
from probe import Backbone, ForwardPass, Noise, load_backbone, run_clip, run_prompt
from probe.mini import MiniConfig, new_pipeline
from store.errors import InvalidInputError, NotFiniteError
from store.scenes.scene import make_scene
from store.selection import Selection

PROMPT = "a red disc moves left over blue stripes"
CLIP = make_scene(3, images=2, height=16, width=16)


@pytest.fixture(scope="module")
def mini() -> Backbone:
    return load_backbone(new_pipeline(MiniConfig(images=2, height=16, width=16, layers=2)), device="cpu")


@contextmanager
def damaged(backbone: Backbone, value: float) -> Iterator[None]:
    """One weight of the last layer's projection is what it must not be."""
    weight = backbone.pipeline.transformer.proj_out.weight
    with torch.no_grad():
        before = weight[0, 0].clone()
        weight[0, 0] = value
        try:
            yield
        finally:
            weight[0, 0] = before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_end_generate_at_the_step(mini: Backbone, value: float) -> None:
    with damaged(mini, value):
        for run in (mini.generate, lambda prompt, **options: sample(mini, prompt, Strategy(), **options)):
            with pytest.raises(NotFiniteError) as caught:
                run(PROMPT, steps=3)
            assert caught.value.step == 0
            assert str(caught.value).startswith("the latents after step 0 of 3 (timestep 999) are not finite in ")
            assert "check that the weights are finite" in str(caught.value)
    mini.generate(PROMPT, steps=1)


@pytest.mark.parametrize("noise", ["clean", "forward", "inversion"])
def test_weights_that_are_not_finite_end_run_clip_and_run_prompt_at_the_step(mini: Backbone, noise: Noise) -> None:
    with damaged(mini, float("nan")):
        with pytest.raises(NotFiniteError, match=r"predicts of branch 'cond' at step \d of 3"):
            run_clip(mini, CLIP, Selection([1], [0]), lambda capture: None, steps=3, noise=noise)
        with pytest.raises(NotFiniteError, match="the latents after step 0 of 3"):
            run_prompt(mini, PROMPT, Selection([2], [0]), lambda capture: None, steps=3, want_clip=False)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), -float("inf"), "6", True])
def test_a_guidance_scale_that_is_no_finite_number_is_refused_before_the_model_runs(mini: Backbone, scale: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"guidance_scale must be a (finite )?number; got "):
        mini.generate(PROMPT, steps=1, guidance_scale=scale)


def test_a_guidance_scale_in_the_conditioning_is_checked_too(mini: Backbone) -> None:
    with pytest.raises(InvalidInputError, match="guidance_scale must be a finite number; got nan"):
        mini.generate(PROMPT, steps=1, conditioning={"guidance_scale": float("nan")})


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("scale", [1e30, 1e9])
def test_a_guidance_scale_beyond_measure_ends_at_the_step_with_the_remedy(
    mini: Backbone, steps: int, scale: float
) -> None:
    with pytest.raises(NotFiniteError, match=rf"after step \d of {steps} .* Lower guidance_scale"):
        mini.generate(PROMPT, steps=steps, guidance_scale=scale)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_latents_that_are_not_finite_are_not_decoded(mini: Backbone, value: float) -> None:
    latents = mini.encode(CLIP)
    latents[0, 0, 0, 0, 0] = value
    with pytest.raises(NotFiniteError, match="the latents to decode are "):
        mini.decode(latents)
    with pytest.raises(NotFiniteError, match="the latents shown to the model at step 1 of 3"):
        ForwardPass(mini, PROMPT, steps=3, height=16, width=16, images=2).predict(latents, 1)


@pytest.mark.parametrize("latents", [None, torch.zeros(6, 12, 20), torch.zeros(1, 6, 12, 8, 8, dtype=torch.int64)])
def test_what_is_no_latents_is_not_decoded(mini: Backbone, latents: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"latents must be a (float t|T)ensor"):
        mini.decode(latents)


def test_images_and_latents_that_a_vae_makes_not_finite_are_refused(
    mini: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, encode = mini.pipeline.vae.decode, mini.scale_latents
    latents = mini.encode(CLIP)

    def broken(*args: Any, **kwargs: Any) -> Any:
        decoded = decode(*args, **kwargs)
        (decoded if isinstance(decoded, tuple) else (decoded.sample,))[0].mul_(float("nan"))
        return decoded

    monkeypatch.setattr(mini.pipeline.vae, "decode", broken)
    for make in (lambda: mini.decode(latents), lambda: mini.generate(PROMPT, steps=1)):
        with pytest.raises(NotFiniteError, match="Check that the weights of the VAE are finite"):
            make()
    monkeypatch.setattr(mini, "scale_latents", lambda values: encode(values) * float("nan"))
    with pytest.raises(NotFiniteError, match=r"the latents that the VAE of .* made of a clip are not finite"):
        mini.encode(CLIP)
