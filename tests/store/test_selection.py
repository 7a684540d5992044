from types import SimpleNamespace

import numpy as np
import pytest

from store import Selection, TokenLayout
from store.errors import InvalidInputError, PlanTooLargeError, UnknownLayerError
from store.plan import format_bytes
from store.selection import resolve_number

LAYOUT = TokenLayout(3, 5, 7, 80, 112, 9)
TEXT_LAYOUT = TokenLayout(3, 5, 7, 80, 112, 9, text_tokens=6)


def tiny(layers=6, heads=2, channels=4, odd=None):
    made = [SimpleNamespace(index=i, name=f"blocks.{i}.attn1", heads=heads, channels=channels) for i in range(layers)]
    if odd is not None:
        made[odd].heads = heads + 1
    return SimpleNamespace(name="tiny", layers=made)


def test_numbers_are_ascending_unique_and_count_from_the_end():
    chosen = Selection(steps=(n for n in (-1, 3, 3)), layers=np.array([-2, 0]), heads={1, -1}, frames=range(2))
    resolved = chosen.resolve(6, 50, 4, 3)
    assert resolved.steps == (3, 49)
    assert resolved.layers == (0, 4)
    assert resolved.heads == (1, 3)
    assert resolved.frames == (0, 1)
    assert chosen.resolve(6, 50, 4, 3) == resolved  # a generator is read once only


def test_all_and_default_mean_every_one():
    resolved = Selection("all", range(6)).resolve(6, 3, 2)
    assert (resolved.steps, resolved.layers, resolved.heads) == ((0, 1, 2), (0, 1, 2, 3, 4, 5), (0, 1))


def test_branches_keep_their_order_and_may_be_one_name():
    assert Selection([0], [0], branches=("uncond", "cond", "cond")).branches == ("cond", "uncond")
    assert Selection([0], [0], branches="uncond").branches == ("uncond",)


BAD = [
    (
        lambda: Selection([], [0]),
        InvalidInputError,
        "steps is empty: nothing would be recorded. Name at least one, or pass 'all'.",
    ),
    (
        lambda: Selection([0], ()),
        InvalidInputError,
        "layers is empty: nothing would be recorded. Name at least one, or pass 'all'.",
    ),
    (
        lambda: Selection([0], [0], heads=[]),
        InvalidInputError,
        "heads is empty: nothing would be recorded. Name at least one, or pass 'all'.",
    ),
    (
        lambda: Selection([0], [0], branches=()),
        InvalidInputError,
        "branches is empty: nothing would be recorded. Branches are 'cond' and 'uncond'.",
    ),
    (
        lambda: Selection([0], [0], branches=("best",)),
        UnknownLayerError,
        "branch 'best' does not exist. Branches are 'cond' and 'uncond'.",
    ),
    (lambda: Selection(3, [0]), InvalidInputError, "steps must be an iterable of ints or 'all'; got 3."),
    (lambda: Selection([0.5], [0]), InvalidInputError, "steps must be an iterable of ints or 'all'; got [0.5]."),
    (lambda: Selection([0], "some"), InvalidInputError, "layers must be ints or 'all'; got 'some'."),
    (
        lambda: Selection([0], [6]).plan(tiny(), LAYOUT),
        UnknownLayerError,
        "layer 6 does not exist. The backbone has layers 0 to 5.",
    ),
    (
        lambda: Selection([0], [-7]).plan(tiny(), LAYOUT),
        UnknownLayerError,
        "layer -7 does not exist. The backbone has layers 0 to 5.",
    ),
    (
        lambda: Selection([50], [0]).plan(tiny(), LAYOUT),
        UnknownLayerError,
        "step 50 does not exist. The run has steps 0 to 49.",
    ),
    (
        lambda: Selection([0], [0], heads=[2]).plan(tiny(), LAYOUT),
        UnknownLayerError,
        "head 2 does not exist. The backbone has heads 0 to 1.",
    ),
    (
        lambda: Selection([0], [0], frames=[3]).plan(tiny(), LAYOUT),
        UnknownLayerError,
        "frame 3 does not exist. The layout has frames 0 to 2.",
    ),
    (
        lambda: Selection([0], [0]).plan(tiny(), LAYOUT, 0),
        InvalidInputError,
        "a run needs at least 1 step; got steps=0.",
    ),
    (
        lambda: Selection([0], [0, 3]).plan(tiny(odd=3), LAYOUT),
        InvalidInputError,
        "layer 3 has 3 heads of 4 channels, layer 0 has 2 of 4. "
        "Record layers of different sizes in separate recordings.",
    ),
    (
        lambda: Selection("all", [0, 3]).plan(tiny(), LAYOUT, limit_bytes=9_999),
        PlanTooLargeError,
        "the plan needs 336.0 kB (336000 bytes) for 100 records of 3.4 kB; the limit is 10.0 kB (9999 bytes). Select "
        "fewer of the 50 steps, 2 layers, 1 branches, 2 heads or 3 frames, or raise it with limit_bytes=336000.",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), BAD, ids=[message[:40] for *_, message in BAD])
def test_bad_input(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


def test_uneven_layers_may_stay_unselected():
    assert Selection([0], [0, 2]).plan(tiny(odd=3), LAYOUT).layers == (0, 2)


def test_plan_counts_every_byte():
    plan = Selection([0, -1], [1, 3, 4], ("cond", "uncond"), frames=[0, 2]).plan(tiny(), TEXT_LAYOUT, 10, features=True)
    arrays = {array.name: array for array in plan.arrays}
    assert list(arrays) == ["query", "key", "text_query", "text_key", "features"]
    assert arrays["query"].dims == ("step", "branch", "layer", "head", "frame", "y", "x", "channel")
    assert arrays["query"].shape == (2, 2, 3, 2, 2, 5, 7, 4)
    assert arrays["text_key"].shape == (2, 2, 3, 2, 6, 4)
    assert arrays["features"].shape == (2, 2, 3, 2, 5, 7, 8)
    assert plan.records == 12
    assert plan.nbytes == 2 * 12 * (2 * 2 * 2 * 5 * 7 * 4 + 2 * 2 * 6 * 4 + 2 * 5 * 7 * 8)
    assert plan.layer_names == ("blocks.1.attn1", "blocks.3.attn1", "blocks.4.attn1")


def test_features_hold_every_head_whatever_is_selected():
    plan = Selection([0], [0], heads=[1]).plan(tiny(), LAYOUT, features=True)
    assert plan.heads == (1,)
    assert plan.arrays[-1].shape == (1, 1, 1, 3, 5, 7, 8)


def test_full_cogvideox_2b_takes_what_the_design_says():
    backbone, layout = tiny(30, 30, 64), TokenLayout(13, 30, 45, 480, 720, 49)
    one = Selection([-1], [17]).plan(backbone, layout)
    assert one.nbytes == 134_784_000
    with pytest.raises(PlanTooLargeError):
        Selection("all", "all").plan(backbone, layout)
    assert Selection("all", "all").plan(backbone, layout, limit_bytes=None).nbytes == 1500 * one.nbytes


def test_check_takes_another_limit():
    plan = Selection([0], [0]).plan(tiny(), LAYOUT)
    plan.check(plan.nbytes)
    with pytest.raises(PlanTooLargeError, match=r"the limit is 1\.0 kB"):
        plan.check(1000)


def test_repr():
    plan = Selection("all", [-1, 0]).plan(tiny(), TEXT_LAYOUT, 50, features=True)
    assert repr(plan) == (
        "Plan for tiny: 100 records, 523.2 kB\n"
        "  steps     0, 1, 2, ..., 47, 48, 49 (50 of 50)\n"
        "  layers    0, 5 (2 of 6)\n"
        "  branches  cond\n"
        "  heads     0, 1 (2 of 2)\n"
        "  frames    0, 1, 2 (3 of 3)\n"
        "  cells     5 x 7 of a clip of 80 x 112 px (height x width)\n"
        "  query       float16  168.0 kB  (step: 50, branch: 1, layer: 2, head: 2, frame: 3, y: 5, x: 7, channel: 4)\n"
        "  key         float16  168.0 kB  (step: 50, branch: 1, layer: 2, head: 2, frame: 3, y: 5, x: 7, channel: 4)\n"
        "  text_query  float16  9.6 kB  (step: 50, branch: 1, layer: 2, head: 2, token: 6, channel: 4)\n"
        "  text_key    float16  9.6 kB  (step: 50, branch: 1, layer: 2, head: 2, token: 6, channel: 4)\n"
        "  features    float16  168.0 kB  (step: 50, branch: 1, layer: 2, frame: 3, y: 5, x: 7, feature: 8)"
    )


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (205_000_000_000, "205.0 GB")]
)
def test_format_bytes(count, text):
    assert format_bytes(count) == text


def test_a_run_without_steps_is_refused_wherever_numbers_are_resolved():
    for call in (
        lambda: Selection([0], [0]).resolve(6, 0, 4),
        lambda: Selection("all", [0]).resolve(6, 0, 4),
        lambda: Selection([0], [0]).plan(tiny(), LAYOUT, 0),
        lambda: resolve_number("step", 0, 0, "run"),
    ):
        with pytest.raises(InvalidInputError) as caught:
            call()
        assert str(caught.value) == "a run needs at least 1 step; got steps=0."
    with pytest.raises(InvalidInputError) as caught:
        Selection([0], "all").resolve(0, 5, 4)
    assert str(caught.value) == "a backbone needs at least 1 layer; got layers=0."
