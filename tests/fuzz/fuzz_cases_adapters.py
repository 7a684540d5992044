"""Cases of the fuzz: adapters, MTBench and plans."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from fuzz_world import World, plain

import analyses
import ditprobe as dp
import generators
from generators.adapters.latent_tracks import LatentTracks


def _evaluation(world: World) -> xr.Dataset:
    over = ("transfer", "clip", "prompt")
    names = ("motion_fidelity", "edit_fidelity", "temporal_consistency", "prompt_agreement", "seconds")
    values = np.random.default_rng(0).random((len(names), 1, 2, 2))
    return xr.Dataset(
        {name: (over, values[number]) for number, name in enumerate(names)},
        {
            "transfer": ["plain"],
            "clip": ["a", "b"],
            "prompt": [0, 1],
            "level": ("clip", ["easy", "hard"]),
            "clusters": ("clip", [1, 7]),
        },
    )


def _adapter_file(world: World) -> str:
    return str(dp.save_adapter(generators.TemporalKernel(world.mini, width=2, layers=[0]), world.new(".safetensors")))


plain(
    "motion_difficulty",
    analyses.motion_difficulty,
    lambda w: {"tracks": np.repeat(w.tracks, 3, 1), "min_spread": 16.0, "max_clusters": 3, "seed": 0},
)
plain("mtbench_means", analyses.mtbench_means, lambda w: {"evaluation": _evaluation(w)})
plain("mtbench_table", dp.mtbench_table, lambda w: {"evaluation": _evaluation(w), "published": True})
plain(
    "motionbench_table",
    dp.motionbench_table,
    lambda w: {
        "evaluation": _evaluation(w).assign_coords(category=("clip", ["camera", "people"])),
        "published": True,
    },
)
plain(
    "motion_scene_entries", dp.motion_scene_entries, lambda w: {"categories": ("camera",), "entries": 1, "prompts": 1}
)
plain("published_mtbench", analyses.published_mtbench, lambda w: {})
plain("scene_entries", dp.scene_entries, lambda w: {"levels": ("easy",), "entries": 1, "prompts": 1})
plain(
    "colour_leak",
    dp.colour_leak,
    lambda w: {
        "images": w.scene.images,
        "prompt": "a red ring over blue stripes",
        "reference": "a green disc over white dots",
    },
)
plain(
    "tracks_of",
    generators.tracks_of,
    lambda w: {"clip": w.clip, "backbone": w.mini, "source": "auto", "mask": None, "points": 4, "seed": 0},
)
plain(
    "save_adapter",
    dp.save_adapter,
    lambda w: {"adapter": generators.TemporalKernel(w.mini, width=2, layers=[0]), "path": w.new(".safetensors")},
)
plain("load_adapter", dp.load_adapter, lambda w: {"path": _adapter_file(w), "backbone": w.mini})
plain(
    "denoising_loss",
    generators.denoising_loss,
    lambda w: {
        "schedule": w.mini.schedule(4),
        "clean": torch.zeros(1, 2, 12, 8, 8),
        "noise": torch.ones(1, 2, 12, 8, 8),
        "prediction": torch.ones(1, 2, 12, 8, 8),
        "step": 1,
        "preset": "exact",
    },
)
plain(
    "point_tracking_loss",
    generators.point_tracking_loss,
    lambda w: {
        "latents": torch.ones(1, 4, 2, 8, 8),
        "tracks": LatentTracks(torch.ones(2, 3, 2), torch.ones(2, 3, dtype=torch.bool), (8, 8)),
        "frame_axis": 2,
        "preset": "exact",
    },
)
plain(
    "motion_loss",
    generators.motion_loss,
    lambda w: {
        "prediction": torch.ones(1, 4, 2, 8, 8),
        "target": torch.ones(1, 4, 2, 8, 8),
        "frame_axis": 2,
        "preset": "exact",
    },
)
plain(
    "head_groups",
    generators.head_groups,
    lambda w: {"backbone": w.mini, "clip": w.clip, "split": "none", "undecided": "nearest", "seed": 0},
)
plain(
    "plan_model",
    dp.plan_model,
    lambda w: {"name_or_path": "mini", "size": None, "height": 40, "width": 40, "images": 6},
)
