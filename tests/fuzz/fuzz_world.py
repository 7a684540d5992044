"""What valid calls of the fuzz are made of, and the register of cases."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import xarray as xr

import ditprobe as dp
from analyses.metrics.encoders import ClipEncoder
from probe.attention.positions import AddedPositions
from probe.backbones.geometry import Size
from probe.mini import MiniConfig, new_pipeline

PROMPT = "a red disc moves left over blue stripes"
Case = tuple[Callable[..., Any], dict[str, Any]]
CASES: dict[str, Callable[[World], Case]] = {}


class World:
    """What valid calls are made of: a model of two layers, a clip, its tracks, files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count()

    def new(self, suffix: str) -> str:
        """A path at which nothing is."""
        return str(self.folder / f"new{next(self._numbers)}{suffix}")

    @cached_property
    def mini(self) -> Any:
        return dp.load_backbone(new_pipeline(MiniConfig(images=2, height=16, width=16, layers=2)), device="cpu")

    @cached_property
    def bundled(self) -> Any:
        return dp.load_backbone("mini", device="cpu")

    @cached_property
    def clip(self) -> Any:
        return dp.make_scene(3, images=2, height=16, width=16, prompt=PROMPT)

    @cached_property
    def scene(self) -> Any:
        return dp.make_scene(3, images=3, height=40, width=40, prompt="a red ring moves left over blue stripes")

    @cached_property
    def head_masses(self) -> Any:
        clips = {"a": self.clip, "b": dp.make_scene(4, images=2, height=16, width=16)}
        return dp.sweep_heads(self.mini, clips, dp.Selection([0, -1], "all"), steps=2, progress=False)

    @property
    def layout(self) -> Any:
        return dp.TokenLayout(3, 5, 7, 80, 112, 9)

    @property
    def tokens(self) -> np.ndarray:
        return np.random.default_rng(0).normal(size=(2, 3, 5, 7, 4)).astype(np.float32)

    @property
    def tensors(self) -> torch.Tensor:
        return torch.from_numpy(self.tokens)

    @property
    def points(self) -> np.ndarray:
        return np.array([[8.0, 24.0], [50.0, 60.0]])

    @property
    def tracks(self) -> np.ndarray:
        return self.points + np.arange(9.0)[:, None, None]

    @property
    def visible(self) -> np.ndarray:
        return np.ones((9, 2), bool)

    @property
    def images(self) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 255, (9, 80, 112, 3), dtype=np.uint8)

    @property
    def still(self) -> Any:
        return dp.PointTracks.still(np.array([[0, 8.0, 24.0], [2, 50.0, 60.0]]), 9)

    @property
    def tracked(self) -> Any:
        return dp.Clip(self.images, 8.0, self.tracks, self.visible, prompt=PROMPT)

    @cached_property
    def sweep(self) -> xr.Dataset:
        cross = np.arange(24.0).reshape(2, 3, 4, 1) / 100
        measures: dict[str, Any] = dict.fromkeys(
            ("confidence", "attention_score"), (("clip", "step", "layer", "target"), cross)
        )
        measures["accuracy"] = (("clip", "step", "layer"), 100 * cross[..., 0], {"units": "%"})
        names = {"clip": ["a", "b"], "step": [0, 20, 49], "layer": [0, 1, 2, 3], "target": ["cross"]}
        return xr.Dataset(measures, names)

    @property
    def selection(self) -> Any:
        return dp.Selection([-1], [0, 1])

    @property
    def attention(self) -> xr.DataArray:
        return dp.attention_of_points(self.tokens, self.tokens, self.points, self.layout)

    @property
    def flow(self) -> xr.DataArray:
        return dp.labelled_flow(np.ones((3, 3, 5, 7, 2)), self.layout)

    @cached_property
    def evaluation(self) -> xr.Dataset:
        return dp.evaluate_tapvid({"goat": self.tracked}, {"nothing moves": dp.StaticTracker()})

    @cached_property
    def errors(self) -> xr.Dataset:
        return dp.tracking_errors(self.still, self.tracks, self.visible, (80, 112))

    @property
    def scores(self) -> xr.DataArray:
        return xr.DataArray([[40.0, 60.0], [50.0, 90.0]], {"tracker": ["patches", "ours"]}, ("tracker", "clip"))

    @property
    def embedding(self) -> Any:
        return dp.MotionEmbedding("mini", Size(16, 16, 2), 3, {0: AddedPositions(torch.zeros(2, 4, 4, 128))})

    @cached_property
    def recording(self) -> Any:
        return dp.record(self.mini, self.clip, self.selection, self.new(".zarr"), steps=3)

    @cached_property
    def arguments(self) -> Any:
        return self.mini.arguments(PROMPT, steps=2)

    @property
    def plan(self) -> Any:
        layers = [SimpleNamespace(index=i, name=f"blocks.{i}.attn1", heads=2, channels=4) for i in range(2)]
        return dp.Selection([-1], [1]).plan(SimpleNamespace(name="tiny", layers=layers), self.layout, steps=3)

    @cached_property
    def files(self) -> dict[str, str]:
        """A file of each kind that can be read."""
        found = {kind: self.new(suffix) for kind, suffix in _SUFFIXES.items()}
        dp.write_clip(found["clip"], self.scene)
        dp.write_tapvid(found["tapvid"], {"goat": self.scene})
        dp.save_tracks(self.still, found["tracks"])
        dp.save_flow(self.flow, found["flow"])
        dp.save_sweep(self.sweep, found["sweep"])
        dp.save_embedding(self.embedding, found["embedding"])
        dp.save_selection(dp.select_layers(self.sweep, 2, samples=50), found["selection"])
        return found


_SUFFIXES = {
    "clip": ".mp4",
    "tapvid": ".pkl",
    "tracks": ".npz",
    "flow": ".npz",
    "sweep": ".nc",
    "embedding": ".safetensors",
    "selection": ".json",
}


def case(make: Callable[[World], Case]) -> Callable[[World], Case]:
    """Keep a valid call under the name of its maker."""
    CASES[make.__name__.rstrip("_")] = make
    return make


def plain(name: str, call: Callable[..., Any], arguments: Callable[[World], dict[str, Any]]) -> None:
    CASES[name] = lambda world: (call, arguments(world))


def listed(call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **arguments: list(call(**arguments))


def written(**arguments: Any) -> None:
    with dp.RecordingWriter(**arguments) as writer:
        del writer


class Encoder(ClipEncoder):
    """Stands for a CLIP or DINO model: what it says of every image and text is one vector."""

    def images(self, images: Any, *, batch: int = 32) -> torch.Tensor:
        return torch.ones(len(images), 4)

    def text(self, prompt: str) -> torch.Tensor:
        return torch.ones(4)


def cotracker(video: torch.Tensor, queries: torch.Tensor, backward_tracking: bool) -> Any:
    tracks = queries[:, None, :, 1:].expand(-1, video.shape[1], -1, -1)
    return tracks, torch.ones(tracks.shape[:3], dtype=torch.bool)


RUN: dict[str, Any] = {
    "seed": 0,
    "steps": 2,
    "height": 16,
    "width": 16,
    "images": 2,
    "guidance_scale": 3.0,
    "negative_prompt": None,
    "conditioning": {},
    "on_step": None,
}
SHOWN: dict[str, Any] = {
    "noise": "clean",
    "seed": 0,
    "steps": 3,
    "prompt": PROMPT,
    "guidance_scale": 3.0,
    "negative_prompt": None,
    "conditioning": {},
    "on_step": None,
}
FITTED: dict[str, Any] = {"size": (16, 16), "images": 2, "stride": 1}
METHOD: dict[str, Any] = {
    "optimise": "latents",
    "layers": (0,),
    "fraction": 0.5,
    "iterations": 1,
    "learning_rate": (0.01, 0.01),
    "inject": False,
    "preset": "exact",
}


def dropped(options: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in names}
