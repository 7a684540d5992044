"""The probe around things that no pipeline does: hand-made calls, other step counts, rearranged tokens, many sinks."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import tiny_pipelines as tiny
import torch

from probe import Backbone, Capture, ForwardPass, Probe, load_backbone, run_clip
from probe.capture.clock import SamplerClock
from probe.mini import new_pipeline
from store.clips.clip import Clip
from store.errors import InvalidInputError, UnknownLayerError, UnsupportedBackboneError
from store.selection import Selection

PROMPT = "a red disc moves left over blue stripes"
OTHER = "a green square moves up over grey dots"


@pytest.fixture(scope="module")
def mini() -> Backbone:
    return load_backbone(new_pipeline(), device="cpu")


@pytest.fixture(scope="module")
def clip(mini: Backbone) -> Clip:
    return mini.generate(PROMPT, steps=1)


def see(backbone: Backbone, steps: int, selection: Selection, **options: Any) -> list[Capture]:
    found: list[Capture] = []
    with Probe(backbone, selection, found.append, **options):
        backbone.generate(PROMPT, steps=steps)
    return found


def test_negative_steps_count_from_the_end_of_whatever_run_there_is(mini: Backbone) -> None:
    found: list[Capture] = []
    with Probe(mini, Selection([-1], [0]), found.append):
        for steps in (2, 4):
            mini.generate(PROMPT, steps=steps)
    assert [(capture.step, capture.timestep) for capture in found] == [(1, 499.0), (3, 249.0)]


def test_a_step_beyond_the_run_is_refused_when_it_starts(mini: Backbone) -> None:
    with pytest.raises(UnknownLayerError) as caught:
        see(mini, 2, Selection([5], [0]))
    assert str(caught.value) == "step 5 does not exist. The run has steps 0 to 1."


def test_several_sinks_get_the_same_capture(mini: Backbone) -> None:
    one: list[Capture] = []
    other: list[Capture] = []
    with Probe(mini, Selection([0], [3]), [one.append, other.append]):
        mini.generate(PROMPT, steps=1)
    assert one == other
    assert len(one) == 1


def test_a_probe_without_sinks_is_refused(mini: Backbone) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Probe(mini, Selection([0], [0]), [])
    assert str(caught.value) == "a probe needs at least one sink: a callable that takes a Capture."


def test_a_call_by_hand_is_what_it_is_announced_to_be(mini: Backbone) -> None:
    transformer, found = mini.pipeline.transformer, []
    call = (torch.zeros(3, 6, 12, 20, 20), torch.zeros(3, 40, 128), torch.full((3,), 321))
    with torch.no_grad(), Probe(mini, Selection([-2], [1], ("uncond",)), found.append):
        with mini.label_calls(48, 321.0, "uncond", steps=50):
            transformer(*call)
        with mini.label_calls(48, 321.0, "cond", steps=50):
            transformer(*call)
        with mini.label_calls(None, 321.0):
            transformer(*call)
    assert [(c.step, c.timestep, c.branch, c.sample) for c in found] == [(48, 321.0, "uncond", n) for n in range(3)]


def test_probes_nest_and_see_the_same(mini: Backbone) -> None:
    inner: list[Capture] = []
    outer: list[Capture] = []
    with Probe(mini, Selection([0, 1], [2]), outer.append):
        with Probe(mini, Selection([1], [2, 4]), inner.append):
            mini.generate(PROMPT, steps=2)
        mini.generate(PROMPT, steps=2)
    assert [(c.step, c.layer) for c in inner] == [(1, 2), (1, 4)]
    assert [(c.step, c.layer) for c in outer] == [(0, 2), (1, 2)] * 2
    assert torch.equal(inner[0].query, outer[1].query)


def test_unknown_frames_are_refused(mini: Backbone) -> None:
    with pytest.raises(UnknownLayerError) as caught:
        see(mini, 1, Selection([0], [0], frames=[6]))
    assert str(caught.value) == "frame 6 does not exist. The layout has frames 0 to 5."


def test_rearranged_tokens_are_refused() -> None:
    backbone = load_backbone(tiny.wan())
    backbone.pipeline.transformer.blocks[1].register_forward_pre_hook(
        lambda block, args: (args[0][:, :50], args[1], args[2], tuple(table[:, :50] for table in args[3]))
    )
    options = {"conditioning": {"prompt_embeds": tiny.embeds(13, 32, 0)}, **tiny.SIZE}
    with pytest.raises(UnsupportedBackboneError) as caught, Probe(backbone, Selection([0], [1]), print):
        backbone.generate(None, steps=1, guidance_scale=1.0, **options)
    assert str(caught.value) == (
        "blocks.1.attn1 attended over 50 tokens, but 3 frames of 5 x 7 cells and 0 text tokens are 105. Something "
        "(sequence parallelism, a method that drops tokens) rearranges the tokens; switch it off before probing."
    )


def test_an_unprepared_branch_and_an_unknown_step_are_refused(mini: Backbone) -> None:
    forward = ForwardPass(mini, PROMPT, steps=9)
    latents = torch.zeros(1, 6, 12, 20, 20)
    with pytest.raises(UnknownLayerError) as caught:
        forward.predict(latents, 0, branches=("uncond",))
    assert str(caught.value) == (
        "branch 'uncond' was not prepared. This forward pass has cond. Make it with branches=('cond', 'uncond')."
    )
    with pytest.raises(UnknownLayerError) as caught:
        forward.predict(latents, 10)
    assert str(caught.value) == "step 10 does not exist. The run has steps 0 to 8."


def test_a_forward_pass_leaves_the_pipelines_progress_bar_and_hooks_alone(mini: Backbone) -> None:
    pipeline = mini.pipeline
    pipeline.set_progress_bar_config(desc="mine")
    ForwardPass(mini, PROMPT, steps=9)
    assert pipeline._progress_bar_config == {"desc": "mine"}
    assert not pipeline.transformer._forward_pre_hooks
    del pipeline._progress_bar_config
    ForwardPass(mini, PROMPT, steps=9)
    assert not hasattr(pipeline, "_progress_bar_config")


def test_prompts_of_a_clip_matter_and_can_be_replaced(mini: Backbone, clip: Clip) -> None:
    found: dict[str | None, Capture] = {}
    for prompt in (None, PROMPT, OTHER):
        run_clip(mini, clip, Selection([-1], [2]), lambda c, p=prompt: found.update({p: c}), prompt=prompt)
    assert torch.equal(found[None].key, found[PROMPT].key)
    assert not torch.equal(found[None].key, found[OTHER].key)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": "dirty"}, "unknown noise 'dirty'. Known: 'clean', 'forward', 'inversion'."),
        ({"steps": 0}, "a run needs at least 1 step; got steps=0."),
    ],
)
def test_bad_options_are_refused_before_the_model_runs(
    mini: Backbone, clip: Clip, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        run_clip(mini, clip, Selection([-1], [2]), print, **options)
    assert str(caught.value) == message


def test_sizes_of_the_mini_follow_its_own_codec(mini: Backbone, clip: Clip) -> None:
    assert mini.default_size == (40, 40, 6)
    assert mini.nearest_size(480, 854, 90) == (480, 856, 90)
    assert mini.layout(40, 40, 6).text_tokens == 40
    assert (mini.decode(mini.encode(clip)).images == clip.images).all()


def test_clock_wraps_the_instance_and_keeps_its_signature() -> None:
    scheduler = new_pipeline().scheduler
    signature = inspect.signature(scheduler.step)
    with SamplerClock(scheduler) as clock:
        assert inspect.signature(scheduler.step) == signature
        scheduler.set_timesteps(4)
        for step in range(4):
            assert (clock.step, clock.timestep, clock.steps) == (step, float(scheduler.timesteps[step]), 4)
            scheduler.step(torch.zeros(1), scheduler.timesteps[step], torch.zeros(1))
        assert clock.timestep is None
        scheduler.set_timesteps(7)
        assert (clock.step, clock.steps) == (0, 7)
    assert "step" not in vars(scheduler)
    assert "set_timesteps" not in vars(scheduler)


def test_clock_puts_back_what_someone_else_had_wrapped() -> None:
    scheduler = new_pipeline().scheduler
    theirs = scheduler.step
    scheduler.step = theirs
    with SamplerClock(scheduler):
        assert scheduler.step is not theirs
    assert scheduler.step is theirs
