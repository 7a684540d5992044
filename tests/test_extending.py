"""The pages on extending ditprobe: the code of each runs, from top to bottom, and does what the page says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import ditprobe as dp
from analyses.trackers.registry import TRACKERS
from generators.transfer.methods import METHODS
from probe.families.registry import REGISTRY

PAGES = Path(__file__).parents[1] / "docs" / "extending"


pytestmark = pytest.mark.usefixtures("registries_as_before")


def run(page: str) -> dict[str, Any]:
    """The names that the Python of a page leaves behind."""
    module = sys.modules[f"extending_{page}"] = ModuleType(f"extending_{page}")
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)):
        code = compile(block, f"docs/extending/{page}.md, block {number}", "exec", dont_inherit=True)
        exec(code, vars(module))
    return vars(module)


def test_every_page_is_tested() -> None:
    assert sorted(page.stem for page in PAGES.glob("*.md")) == ["family", "method", "metric", "tracker", "transformer"]


def test_family() -> None:
    names = run("family")
    backbone = names["backbone"]
    assert type(backbone) is names["LabVideo"] is REGISTRY["LabVideo"]
    assert names["sweep"].sizes["layer"] == 2
    assert np.isfinite(names["sweep"]["accuracy"]).all()
    # What is captured is what the model multiplied, and looking changes nothing.
    options = {"steps": 2, "seed": 1, "height": 80, "width": 112, "images": 9, "conditioning": names["text"]}
    plain = backbone.generate(None, **options)
    found: list[dp.Capture] = []
    with dp.Probe(backbone, dp.Selection(steps=[-1], layers="all", branches=("cond", "uncond")), found.append, steps=2):
        probed = backbone.generate(None, **options)
    np.testing.assert_array_equal(plain.images, probed.images)
    assert [(one.layer, one.branch) for one in found] == [(0, "cond"), (1, "cond"), (0, "uncond"), (1, "uncond")]
    assert tuple(found[0].query.shape) == (2, 3, 5, 7, 12)
    latents = torch.randn(1, 16, 3, 10, 14)
    torch.testing.assert_close(backbone.unscale_latents(backbone.scale_latents(latents), 9), latents)


def test_transformer() -> None:
    names = run("transformer")
    backbone, net, calls = names["backbone"], names["net"], names["calls"]
    assert [(call.layer, tuple(call.query.shape)) for call in calls] == [(0, (1, 2, 105, 12)), (1, (1, 2, 105, 12))]
    assert all("forward" not in vars(layer.mixer) for layer in net.layers)
    # The tap's tensors are those of the module: from them, its own output.
    queries, keys, values = (getattr(calls[0], name) for name in ("query", "key", "value"))
    weights = torch.softmax(queries @ keys.transpose(2, 3) * calls[0].scale, dim=-1)
    torch.testing.assert_close((weights @ values), calls[0].output)
    # The backbone: both branches of both layers, and a run that is the same to the bit.
    assert type(backbone) is names["Sketch"]
    assert [(c.layer_name, c.branch) for c in names["captures"]] == [
        (f"net.layers.{layer}.mixer", branch) for branch in ("cond", "uncond") for layer in (0, 1)
    ]
    assert tuple(names["captures"][0].query.shape) == (2, 3, 5, 7, 12)
    assert np.isfinite(names["sweep"]["accuracy"]).all()
    options = {"steps": 2, "seed": 1, "conditioning": names["text"]}
    plain = backbone.generate(None, **options)
    with dp.Probe(backbone, dp.Selection(steps="all", layers="all"), [].append):
        probed = backbone.generate(None, **options)
    np.testing.assert_array_equal(plain.images, probed.images)
    # Attention can be edited where it is made, and gradients reach the fused projection.
    step = backbone.schedule(2).timesteps[0]
    latents = torch.randn(1, 16, 3, 10, 14)
    call = {"hidden_states": latents, "timestep": torch.tensor([step])}
    call["encoder_hidden_states"] = names["text"]["prompt_embeds"]
    backward = lambda capture: capture.query.sum().backward(retain_graph=True)  # noqa: E731
    with dp.Probe(backbone, dp.Selection(steps=[0], layers=[1]), backward), backbone.label_calls(0, step):
        backbone.denoisers[0](**call)
    assert float(backbone.modules[0][1][1].qkv.weight.grad.abs().sum()) > 0


def test_tracker() -> None:
    names = run("tracker")
    assert names["tracks"].tracks[4, 0].tolist() == [24.0, 22.0]
    assert isinstance(TRACKERS["brightness"](None), names["BrightnessTracker"])
    assert names["evaluation"]["tracker"].values.tolist() == ["brightness", "nothing moves"]


def test_metric() -> None:
    names = run("metric")
    assert names["evaluation"]["jitter"].attrs["units"] == "px"
    assert (names["evaluation"]["jitter"] > 0).all()


def test_method() -> None:
    names = run("method")
    assert METHODS["query-drift"] is names["QueryDrift"]
    assert names["clip"].images.shape == names["reference"].images.shape
    backbone, reference = names["backbone"], names["reference"]
    transfer = dp.MotionTransfer(backbone, reference, names["prompt"], method=names["QueryDrift"](), steps=4)
    (losses,) = transfer.run().losses.values()
    assert losses[-1] < losses[0]
