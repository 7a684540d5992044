"""Public paths of a backbone as calls that take nothing, to be run on any device: a pretend one or a real one."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from device_generators import adapter_paths, guided_paths, of_a_clip, tracking_options, transfer_paths
from tiny_families import FAMILIES, Family

import ditprobe as dp
from probe.run.layers_of_clip import layers_of_clip
from store.errors import InvalidInputError, UnsupportedBackboneError

Path = tuple[str, Callable[[], Any]]
_APART = "text is attended to separately"
REFUSED = {
    ("wan", "points to text"): _APART,
    ("wan", "cells to text"): _APART,
    ("wan", "text to cells"): _APART,
    ("mini-rope", "groups of heads"): "finds no spatial heads",
    **{
        (name, "Follow-Your-Motion, 2 of 3 frames"): r"does not take a clip of 2 latent frames"
        for name in ("cogvideox rotary", "cogvideox added")
    },
}
"""Paths that a family cannot take, and what the error says."""


def outcomes(
    family: Family, backbone: dp.Backbone, folder: str, reason_of: Callable[[str], str | None]
) -> tuple[list[str], list[str], dict[str, str]]:
    """Run every public path; names of those that pass, of those refused for their reason, and errors of the others."""
    passed, refused, failed = [], [], {}
    for path, call in device_paths(family, backbone, folder):
        reason = reason_of(path)
        try:
            call()
        except (InvalidInputError, UnsupportedBackboneError) as error:
            if reason is None or not re.search(reason, str(error)):
                failed[path] = f"refused: {error}"
            else:
                refused.append(path)
        except Exception as error:
            failed[path] = f"{type(error).__name__}: {error}"
        else:
            if reason is None:
                passed.append(path)
            else:
                failed[path] = f"passes, but was to be refused: {reason}"
    return passed, refused, failed


def run_paths(name: str, backbone: dp.Backbone, folder: str, wanted: Collection[str] | None = None) -> list[str]:
    """Run the public paths of a family, all or those of these names; return their names, without those refused."""
    ran = []
    for path, call in device_paths(FAMILIES[name], backbone, folder):
        if wanted is not None and path not in wanted:
            continue
        reason = REFUSED.get((name, path))
        if reason is None:
            call()
            ran.append(path)
        else:
            with pytest.raises(InvalidInputError, match=reason):
                call()
    return ran


def moving_clip(size: dict[str, int]) -> dp.Clip:
    """A smooth clip with four tracks, two of which move."""
    images, height, width = size["images"], size["height"], size["width"]
    coarse = torch.rand(images, 3, 5, 7, generator=torch.Generator().manual_seed(7))
    shown = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    time = np.arange(images)[:, None]
    start = np.array([[10.0, 12.0], [20.0, 5.0], [15.0, 15.0], [8.0, 8.0]])
    speed = np.array([[2.0, 0.0], [0.0, 1.5], [0.0, 0.0], [0.0, 0.0]])
    tracks = start + time[..., None] * speed
    return dp.Clip(
        (shown * 255).byte().permute(0, 2, 3, 1).contiguous().numpy(),
        fps=8,
        prompt="",
        tracks=tracks,
        visibility=(tracks < [width, height]).all(-1),
    )


def on_device(conditioning: dict[str, Any], device: Any, dtype: torch.dtype) -> dict[str, Any]:
    """Text embeddings on a device, as a caller who made them there would pass them."""

    def moved(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return value.to(device).to(dtype) if value.is_floating_point() else value.to(device)

    return {name: moved(value) for name, value in conditioning.items()}


def device_paths(family: Family, backbone: dp.Backbone, folder: str) -> Iterator[Path]:
    """Name and call of every public path; a later one may need what an earlier one captured."""

    def options(guided: bool = False) -> dict[str, Any]:
        found = family.options(guided=guided)
        return {**found, "conditioning": on_device(found["conditioning"], backbone.device, backbone.dtype)}

    plain, text = options(), {"prompt": family.prompt} if family.prompt else {}
    clip, size, last = moving_clip(family.size), (plain["height"], plain["width"]), len(backbone.layers) - 1
    run: dict[str, Any] = {"steps": 3, "conditioning": of_a_clip(backbone, plain["conditioning"])}
    yield from _runs(family, backbone, clip, options, run | text, folder)
    queries = [[0, 12.0, 12.0], [2, 20.0, 20.0]]
    for name, tracking in {
        "track": dp.TrackingOptions(),
        "track, cell by cell": dp.TrackingOptions(support=0),
        "track, clips encoded": dp.TrackingOptions(encode="clip"),
        "track, closer": dp.TrackingOptions(levels=(1, 2), max_crops=1),
    }.items():
        yield (
            name,
            lambda tracking=tracking: dp.track_points(
                clip, queries, backbone, layer=last, step=-1, size=size, options=tracking, **run, **text
            ),
        )
    yield from _analyses(backbone, clip, run | text, last)
    yield from _evaluations(backbone, clip, run | text, last, size)
    yield from transfer_paths(family, backbone, clip, plain)
    yield from guided_paths(family, backbone, options)
    yield from adapter_paths(family, backbone, clip, plain, folder)


def _runs(
    family: Family,
    backbone: dp.Backbone,
    clip: dp.Clip,
    options: Callable[..., dict[str, Any]],
    run: dict[str, Any],
    folder: str,
) -> Iterator[Path]:
    every, steps = dp.Selection("all", "all"), dp.Selection([1, -1], "all")
    plain = options()
    size = {"size": (plain["height"], plain["width"]), "images": plain["images"]}
    yield "generate", lambda: backbone.generate(family.prompt, **plain)
    yield "generate, guided", lambda: backbone.generate(family.prompt, **options(True))
    yield "probe a prompt", lambda: dp.run_prompt(backbone, family.prompt, every, lambda capture: None, **plain)
    yield "probe a clip", lambda: dp.run_clip(backbone, clip, every, lambda capture: None, **run)
    swept = {"min_points": 1, **size, **run}
    for noise in ("clean", "forward", "inversion"):
        yield (
            f"sweep, {noise}",
            lambda noise=noise: dp.sweep(backbone, clip, steps, noise=noise, features=True, **swept),
        )
    yield "sweep, each head", lambda: dp.sweep(backbone, clip, steps, per_head=True, **swept)
    yield "sweep, difftrack", lambda: dp.sweep(backbone, clip, steps, preset="difftrack", **swept)
    one_head = dp.Selection([1, -1], "all", heads=[1])
    yield "sweep, one head", lambda: dp.sweep(backbone, clip, one_head, **swept)
    prompted = run | size | {"conditioning": plain["conditioning"]}
    for name, source, more in (("clip", clip, run | size), ("prompt", family.prompt, prompted)):
        path = tempfile.mktemp(suffix=".zarr", dir=folder)
        kept = {key: value for key, value in more.items() if key != "prompt" or name == "clip"}
        yield (
            f"record a {name}",
            lambda source=source, path=path, kept=kept: dp.record(
                backbone, source, every, path, features=True, values=True, **kept
            ),
        )
    yield "encode, decode", lambda: backbone.decode(backbone.encode(clip))
    shown = {key: value for key, value in run.items() if key != "prompt"}
    yield (
        "layers of a clip",
        lambda: layers_of_clip(backbone, clip, [0], blocks=True, prompt=family.prompt, **shown),
    )


def _analyses(backbone: dp.Backbone, clip: dp.Clip, run: dict[str, Any], last: int) -> Iterator[Path]:
    found: list[dp.Capture] = []
    points = np.array([[12.0, 12.0], [20.0, 7.0]])
    seen = dp.Selection([-1], [last])
    yield "capture", lambda: dp.run_clip(backbone, clip, seen, found.append, features=True, **run)
    tokens = lambda: (found[-1].query, found[-1].key)  # noqa: E731
    yield "flow", lambda: dp.attention_motion_flow(*tokens(), found[-1].layout)
    yield (
        "flow, hard",
        lambda: dp.labelled_flow(dp.attention_motion_flow(*tokens(), found[-1].layout, hard=True), found[-1].layout),
    )
    yield "match", lambda: dp.match_points(*tokens(), points, found[-1].layout)
    yield (
        "match by head",
        lambda: dp.match_points_by_head(*tokens(), points, found[-1].layout, refine="soft", frame=1),
    )
    yield "match features", lambda: dp.match_features(found[-1].features, points, found[-1].layout)
    seen_in = lambda layout: np.ones((layout.images, 2), bool)  # noqa: E731
    yield (
        "affinity",
        lambda: dp.affinity(*tokens(), points, seen_in(found[-1].layout), found[-1].layout, found[-1].text_key),
    )
    yield (
        "attention of points",
        lambda: dp.attention_of_points(*tokens(), points, found[-1].layout, text_key=found[-1].text_key),
    )
    yield "classify heads", lambda: dp.classify_heads(*tokens(), found[-1].layout, found[-1].text_key)
    yield "principal components", lambda: dp.principal_components(found[-1].query)
    yield "points to text", lambda: dp.attention_to_text(*tokens(), found[-1].text_key, points, found[-1].layout)
    yield "cells to text", lambda: dp.map_attention_to_text(*tokens(), found[-1].text_key, found[-1].layout)
    yield (
        "text to cells",
        lambda: dp.attention_of_text(found[-1].text_query, found[-1].key, found[-1].text_key, found[-1].layout),
    )


def _evaluations(
    backbone: dp.Backbone, clip: dp.Clip, run: dict[str, Any], last: int, size: tuple[int, int]
) -> Iterator[Path]:
    """Measures of layers, heads and trackers over clips, where a model runs."""
    yield "sweep heads", lambda: dp.sweep_heads(backbone, {"clip": clip}, dp.Selection([-1], "all"), size=size, **run)
    shown = {key: value for key, value in run.items() if key != "prompt"}
    yield "classify heads of a clip", lambda: dp.classify_clip_heads(backbone, clip, prompt=run.get("prompt"), **shown)
    given = {"size": size, "min_points": 1, **run}
    yield (
        "sweep, closer",
        lambda: dp.sweep_closer(backbone, clip, layers=[last], follow=last, step=-1, max_crops=1, **given),
    )
    yield "reference flow", lambda: dp.reference_flow(backbone, clip, layer=last, prompt=run.get("prompt"), **shown)
    tracker = dp.BackboneTracker(backbone, last, -1, size=size, options=tracking_options(backbone, size), **run)
    yield "TAP-Vid", lambda: dp.evaluate_tapvid({"clip": clip}, {"ours": tracker})
    yield "trackers compared", lambda: dp.compare_trackers({"clip": clip}, {"ours": tracker})
    yield "tracks of a clip", lambda: dp.with_pseudo_tracks(clip, tracker)
    yield "motion fidelity", lambda: dp.clip_motion_fidelity(clip, clip, tracker)
