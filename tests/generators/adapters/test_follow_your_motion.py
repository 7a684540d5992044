"""Follow-Your-Motion: groups of heads, places in time, losses, and a training of two stages that can be interrupted."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from guided import backbone_of, check_same_state, state_of
from tiny_families import FAMILIES
from torch import Tensor
from transfers import reference_of

from generators import transfer_motion
from generators.adapters.decoupled import objectives
from generators.adapters.decoupled.follow_your_motion import PUBLISHED, FollowYourMotion
from generators.adapters.decoupled.groups import head_groups, random_groups
from generators.adapters.decoupled.lora import DecoupledLoRA
from generators.adapters.decoupled.losses import motion_loss, training_weight
from generators.adapters.decoupled.objectives import (
    ImageObjective,
    SparseObjective,
    SparseSettings,
    adaptive_positions,
    sampled_images,
)
from generators.adapters.files import load_adapter, save_adapter
from generators.adapters.training.settings import Losses, Training
from probe import load_backbone
from probe.attention.frame_positions import positions_at
from probe.attention.positions import AddedPositions
from probe.backbones.schedule import Schedule
from probe.run.forward import ForwardPass
from store import Clip, make_scene
from store.errors import ClipError, InvalidInputError, UnsupportedBackboneError

QUICK = Training(steps=2, learning_rate=1e-2, tracking_weight=0.0)
PROMPT = "a red disc moves left over blue stripes"


def clip_of(name: str) -> Clip:
    return dataclasses.replace(reference_of(FAMILIES[name]), prompt=FAMILIES[name].prompt)


def conditioning_of(name: str) -> dict[str, Any]:
    return {**FAMILIES[name].conditioning, **FAMILIES[name].unguided}


def quick(**options: Any) -> FollowYourMotion:
    given: dict[str, Any] = {"training": QUICK, "spatial_training": QUICK, "split": "none", "rank": 2}
    return FollowYourMotion(**(given | options))


@pytest.fixture(scope="module")
def mini() -> Any:
    return load_backbone("mini")


@pytest.fixture(scope="module")
def scene() -> Clip:
    return make_scene(3, prompt=PROMPT)


# Losses -----------------------------------------------------------------------------------------------------------


def _cosine(one: list[float], other: list[float]) -> float:
    norms = math.sqrt(sum(a * a for a in one)) * math.sqrt(sum(b * b for b in other))
    return sum(a * b for a, b in zip(one, other, strict=True)) / norms


@pytest.mark.parametrize("frame_axis", [1, 2])
@pytest.mark.parametrize("preset", ["exact", "paper", "code"])
def test_oracle_motion_loss_sums_cosines_one_by_one(preset: Any, frame_axis: int) -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(1, 4, 3, 2, 2, generator=generator) for _ in range(2))  # frame, channel, y, x
    changes = [[each[0, k + 1] - each[0, k] for k in range(3)] for each in (ours, theirs)]
    found = []
    if preset == "exact":
        for k in range(3):
            for y in range(2):
                for x in range(2):
                    found.append(1 - _cosine(*(each[k][:, y, x].tolist() for each in changes)))
    elif preset == "paper":
        found = [-_cosine(*(each[k].flatten().tolist() for each in changes)) for k in range(3)]
    else:
        for c in range(3):
            for y in range(2):
                for x in range(2):
                    found.append(1 - _cosine(*([abs(float(each[k][c, y, x])) for k in range(3)] for each in changes)))
    given = [each if frame_axis == 1 else each.transpose(1, 2) for each in (ours, theirs)]
    loss = float(motion_loss(*given, frame_axis=frame_axis, preset=preset))
    assert loss == pytest.approx(sum(found) / len(found), abs=1e-6)


def test_motion_loss_needs_two_frames_of_one_shape() -> None:
    for shapes in (
        ((1, 2, 1, 2, 2), (1, 2, 1, 2, 2)),
        ((1, 2, 3, 2, 2), (1, 2, 3, 2, 1)),
        ((2, 3, 2, 2), (2, 3, 2, 2)),
    ):
        with pytest.raises(InvalidInputError, match="two frames at least"):
            motion_loss(*(torch.ones(shape) for shape in shapes))


def test_weight_of_the_released_code_has_mean_one_and_is_of_flow_models_alone() -> None:
    levels = np.linspace(1, 0, 101)
    flow = Schedule(
        tuple(1000 * levels[:-1]), tuple(np.append(1 - levels[:-1], 1.0)), tuple(np.append(levels[:-1], 0.0)), "flow"
    )
    weights = [training_weight(flow, step, "code") for step in range(100)]
    assert np.mean(weights) == pytest.approx(1.0)
    assert np.argmax(weights) == 50
    assert {training_weight(flow, step, "exact") for step in range(100)} == {1.0}
    assert training_weight(dataclasses.replace(flow, prediction="epsilon"), 50, "code") == 1.0


# Positions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(FAMILIES))
def test_positions_of_whole_frames_are_the_model_s_own_and_turn_evenly_between_them(name: str) -> None:
    family, backbone = FAMILIES[name], backbone_of(name)
    forward = ForwardPass(backbone, family.prompt, conditioning=conditioning_of(name), **family.size)
    own = forward.positions()
    whole = positions_at(own, [0, 1, 2])
    for key, table in own.tensors().items():
        assert torch.allclose(whole.tensors()[key], table, atol=1e-5)
    if isinstance(own, AddedPositions):
        return
    half = positions_at(own, [0.0, 0.5, 1.0])
    turns = [torch.atan2(half.tensors()["query_sin"][k], half.tensors()["query_cos"][k]) for k in range(3)]
    steps = [torch.remainder(turns[k + 1] - turns[k] + math.pi, 2 * math.pi) - math.pi for k in range(2)]
    assert torch.allclose(steps[0], steps[1], atol=1e-5)
    assert bool((steps[0].abs() > 0.01).any())


def test_oracle_added_sinusoids_are_those_of_diffusers_at_a_slower_rate() -> None:
    from diffusers.models.embeddings import get_3d_sincos_pos_embed

    def table(frames: int, scale: float) -> Tensor:
        made = get_3d_sincos_pos_embed(64, (4, 3), frames, 1.0, scale, output_type="pt")
        return made.reshape(frames, 3, 4, 64)

    own = AddedPositions(table(6, 1.0))
    places = [0.0, 1.6, 3.2, 4.8]
    found = positions_at(own, places).tensors()["table"]
    assert torch.allclose(found.double(), table(4, 1 / 1.6).double(), atol=1e-5)


def test_learned_tables_are_interpolated() -> None:
    table = torch.randn(4, 2, 2, 8)
    found = positions_at(AddedPositions(table), [0.25, 3.0]).tensors()["table"]
    assert torch.allclose(found[0], 0.75 * table[0] + 0.25 * table[1], atol=1e-6)
    assert torch.equal(found[1], table[3])


@pytest.mark.parametrize("frames", [[], [-0.5], [2.5], [float("nan")]])
def test_positions_outside_the_clip_are_refused(frames: list[float]) -> None:
    with pytest.raises(InvalidInputError):
        positions_at(AddedPositions(torch.zeros(3, 2, 2, 8)), frames)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_own_positions_given_back_change_nothing_and_others_do(name: str) -> None:
    family, backbone = FAMILIES[name], backbone_of(name)
    forward = ForwardPass(backbone, family.prompt, steps=10, conditioning=conditioning_of(name), **family.size)
    noise = torch.randn(forward._shape_shown(), generator=torch.Generator().manual_seed(3))
    before = state_of(backbone)
    with torch.no_grad():
        plain = forward.predict(noise, 5)["cond"]
        own = forward.positions()
        with forward.at_positions(own):
            same = forward.predict(noise, 5)["cond"]
        with forward.at_positions(positions_at(own, [0.0, 0.4, 0.9])):
            other = forward.predict(noise, 5)["cond"]
        again = forward.predict(noise, 5)["cond"]
    assert torch.allclose(same, plain, atol=1e-5)
    assert not torch.allclose(other, plain, atol=1e-4)
    assert torch.equal(again, plain)
    check_same_state(state_of(backbone), before)


def test_adaptive_positions_and_those_that_reach_the_end() -> None:
    assert adaptive_positions(6, 3) == pytest.approx((0, 2, 4))
    assert adaptive_positions(6, 3, ends=True) == pytest.approx((0, 2.5, 5))
    assert adaptive_positions(5, 5) == pytest.approx(range(5))


def test_sampled_images_are_those_published(mini: Any) -> None:
    wan = load_backbone(FAMILIES["wan"].make())
    long = Clip(np.zeros((81, 80, 112, 3), np.uint8), 8.0)
    assert sampled_images(wan, long, 5) == list(range(0, 81, 5))
    assert sampled_images(mini, make_scene(3), 6) == list(range(6))


# Objectives -------------------------------------------------------------------------------------------------------


def test_images_are_drawn_at_random_and_alone(mini: Any, scene: Clip) -> None:
    objective = ImageObjective(mini, scene, QUICK, prompt=PROMPT)
    drawn = [objective.draw(step)[0] for step in range(60)]
    assert set(drawn) == set(range(6))
    assert {tuple(each.shape) for each in objective.clean} == {(1, 1, 12, 20, 20)}
    assert torch.equal(objective.clean[2], mini.encode(objectives.images_of(scene, [2])))


def test_sparse_objective_shows_its_positions_and_weighs_its_motion_loss(mini: Any, scene: Clip) -> None:
    def sparse(**settings: Any) -> SparseObjective:
        return SparseObjective(mini, scene, QUICK, SparseSettings(sampled=3, **settings), prompt=PROMPT)

    found = {}
    with torch.no_grad():
        for positions in ("adaptive", "plain", "random"):
            objective = sparse(positions=positions)
            with objective.shown(0):
                found[positions] = [float(each) for each in objective.losses(0)]
        assert len({values[0] for values in found.values()}) == 3
        assert all(values[1] > 0 for values in found.values())
        half = sparse(motion_weight=0.5)
        none = sparse(motion_weight=0.0)
        with half.shown(0):
            assert float(half.losses(0)[1]) == pytest.approx(0.5 * found["adaptive"][1])
        with none.shown(0):
            assert float(none.losses(0)[1]) == 0.0
    random = sparse(positions="random")
    assert random.places(0) != random.places(1)
    assert sorted(random.places(0)) == list(random.places(0))


def test_the_motion_loss_has_the_tuned_weight_on_the_bundled_backbones_and_the_published_one_elsewhere(
    mini: Any,
) -> None:
    wan = load_backbone(FAMILIES["wan"].make())
    assert FollowYourMotion().resolve_motion_weight(mini) == 0.1
    assert FollowYourMotion(preset="paper").resolve_motion_weight(mini) == 1.0
    assert FollowYourMotion().resolve_motion_weight(wan) == 1.0
    assert FollowYourMotion(motion_weight=0.0).resolve_motion_weight(mini) == 0.0
    assert FollowYourMotion().training_details(mini)["settings"]["motion_weight"] == 0.1


# Groups of heads --------------------------------------------------------------------------------------------------


def test_groups_are_the_classes_of_the_heads_and_random_ones_are_as_large(mini: Any, scene: Clip) -> None:
    from analyses.heads.of_clip import classify_clip_heads

    groups = head_groups(mini, scene, split="exact")
    ratio = classify_clip_heads(mini, scene)["log_ratio"].values
    for layer in range(6):
        assert groups["temporal"][layer] == np.flatnonzero(ratio[layer] > 0).tolist()
        assert sorted(groups["temporal"][layer] + groups["spatial"][layer]) == [0, 1, 2, 3]
    decided = head_groups(mini, scene, split="exact", undecided="neither", margin=1.5)
    assert 0 < sum(map(len, decided["temporal"])) < sum(map(len, groups["temporal"]))
    drawn = head_groups(mini, scene, split="random", seed=1)
    for name, layers in drawn.items():
        assert sum(map(len, layers)) == sum(map(len, groups[name]))
    assert drawn != groups
    assert random_groups(groups, [range(4)] * 6, 1) == drawn


def test_heads_of_one_class_and_grids_too_small_for_blocks_are_refused(mini: Any, scene: Clip) -> None:
    with pytest.raises(InvalidInputError, match=r"finds no spatial heads: all .* are temporal"):
        head_groups(mini, scene, split="paper", margin=1000.0)
    with pytest.raises(InvalidInputError, match="at least 128 cells in a frame"):
        FollowYourMotion(preset="code").adapter_for(mini, scene)


# The method -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_family_is_trained_in_two_stages_and_left_as_it_was(name: str, tmp_path: Path) -> None:
    backbone = backbone_of(name)
    before = state_of(backbone)
    steps: list[Losses] = []
    frames = backbone.layout(**FAMILIES[name].size).frames
    method = quick(sampled=2 if name in ("wan", "hunyuan", "mini", "mini-rope") else frames)
    size = tuple(FAMILIES[name].size[key] for key in ("height", "width", "images"))
    fitted = method.fit(backbone, clip_of(name), size=size, conditioning=conditioning_of(name), on_step=steps.append)
    assert [each.step for each in steps] == [0, 1, 2, 3]
    assert [each.motion > 0 for each in steps] == [False, False, True, True]
    assert fitted.adapter.details["method"] == "FollowYourMotion"
    check_same_state(state_of(backbone), before)
    loaded = load_adapter(save_adapter(fitted.adapter, tmp_path / "motion.safetensors"), backbone)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), fitted.adapter.parameters(), strict=True))


def test_the_first_group_is_frozen_while_the_second_learns(mini: Any, scene: Clip) -> None:
    method = quick(split="exact")
    adapter = method.adapter_for(mini, scene)
    assert isinstance(adapter, DecoupledLoRA)
    start = [each.clone() for each in adapter.parameters_of("temporal")]
    kept: dict[int, list[list[Tensor]]] = {}

    def keep(losses: Losses) -> None:
        groups = (adapter.parameters_of("spatial"), adapter.parameters_of("temporal"))
        kept[losses.step] = [[each.detach().clone() for each in group] for group in groups]

    method.fit(mini, scene, adapter=adapter, on_step=keep)
    assert all(map(torch.equal, kept[1][1], start))  # temporal: as it began
    assert all(map(torch.equal, kept[1][0], kept[3][0]))  # spatial: frozen, weight decay included
    assert not all(map(torch.equal, kept[0][0], kept[1][0]))
    assert not all(map(torch.equal, kept[2][1], kept[3][1]))


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_resumed_training_gives_the_numbers_of_an_uninterrupted_one(
    mini: Any, scene: Clip, tmp_path: Path, stop: int
) -> None:
    path = tmp_path / "motion.training.pt"

    def interrupt(losses: Losses) -> None:
        if losses.step + 1 == stop:
            raise KeyboardInterrupt

    whole = quick().fit(mini, scene).adapter
    with pytest.raises(KeyboardInterrupt):
        quick().fit(mini, scene, checkpoint=path, on_step=interrupt)
    again: list[int] = []
    resumed = quick().fit(mini, scene, checkpoint=path, resume=True, on_step=lambda each: again.append(each.step))
    assert again == list(range(stop, 4))
    assert resumed.adapter.details["losses"] == whole.details["losses"]
    assert all(map(torch.equal, resumed.adapter.parameters(), whole.parameters()))
    assert not path.exists()


def test_a_checkpoint_of_other_settings_is_refused(mini: Any, scene: Clip, tmp_path: Path) -> None:
    path = tmp_path / "motion.training.pt"

    def interrupt(losses: Losses) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick().fit(mini, scene, checkpoint=path, on_step=interrupt)
    for changes, message in (
        ({"positions": "plain"}, "with positions 'adaptive' instead of 'plain'"),
        ({"spatial_training": dataclasses.replace(QUICK, steps=5)}, "with steps .* instead of 5"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            quick(**changes).fit(mini, scene, checkpoint=path, resume=True)


def test_transfer_motion_takes_it_as_a_method_and_can_leave_the_spatial_part_out(mini: Any, scene: Clip) -> None:
    prompt = "a green star moves left over white dots"
    short = dataclasses.replace(QUICK, steps=1)
    method = quick(training=short, spatial_training=short)
    assert transfer_motion(mini, scene, prompt, method=method, steps=1).images.shape == (6, 40, 40, 3)
    fitted = dataclasses.replace(method, keep_spatial=False).fit(mini, scene)
    assert fitted.adapter.groups == ("temporal",)  # type: ignore[attr-defined]
    alone = dataclasses.replace(method, trained="temporal").fit(mini, scene)
    assert len(alone.adapter.details["losses"]) == 1


def test_published_settings_and_passes(mini: Any) -> None:
    paper = FollowYourMotion(preset="paper")
    assert paper.resolve_training(mini) == PUBLISHED["paper"]["temporal"]
    assert paper.resolve_rank(mini) == 128
    assert FollowYourMotion(preset="code").resolve_rank(mini) == 16
    assert paper.passes(mini, 50) == pytest.approx(3 * (3000 / 6 + 2000 * 3 / 6))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampled": 9}, "9 frames cannot be sampled of the 6 latent frames"),
        ({"sampled": 1}, "sampled must be at least 2"),
        ({"rank": 0}, "rank must be at least 1"),
        ({"motion_weight": -1.0}, "motion_weight must"),
        ({"trained": "text"}, "unknown trained"),
        ({"trained": "spatial", "keep_spatial": False}, "leaves nothing to use"),
        ({"keep": 1.5}, "keep must lie between 0 and 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(mini: Any, scene: Clip, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        quick(**options).fit(mini, scene)


def test_clips_without_motion_are_refused(mini: Any, scene: Clip) -> None:
    still = dataclasses.replace(scene, images=np.repeat(scene.images[:1], 6, 0))
    with pytest.raises(ClipError, match="no motion to learn"):
        quick().fit(mini, still)
    with pytest.raises(ClipError):
        objectives.images_of(scene, [7])


def test_numbers_of_frames_that_a_model_does_not_take_are_refused() -> None:
    backbone = backbone_of("cogvideox rotary")
    clip = clip_of("cogvideox rotary")
    with pytest.raises(InvalidInputError, match="does not take a clip of 2 latent frames"):
        sampled_images(backbone, clip, 2)


def test_learned_tables_of_positions_are_refused(mini: Any) -> None:
    backbone = FAMILIES["cogvideox rotary"].backbone()
    backbone.pipeline.transformer.register_to_config(use_learned_positional_embeddings=True)
    with pytest.raises(UnsupportedBackboneError, match="a learned table of positions"):
        ImageObjective(backbone, clip_of("cogvideox rotary"), QUICK, conditioning=conditioning_of("cogvideox rotary"))
