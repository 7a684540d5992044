"""``ditprobe info`` on every kind of file that ditprobe writes, and on others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.numpy import save_file
from typer.testing import Result

from analyses.evaluation.files import save_evaluation
from analyses.evaluation.tapvid import evaluate_tapvid
from analyses.flow.attention_flow import labelled_flow
from analyses.flow.files import save_flow
from analyses.trackers.static import StaticTracker
from generators.transfer.embedding import MotionEmbedding
from generators.transfer.embedding_files import save_embedding
from probe.attention.positions import AddedPositions
from probe.backbones.geometry import Size
from store import TokenLayout, make_scene, write_clip
from store.datasets.tapvid_writing import write_tapvid
from store.tracks.files import save_tracks
from store.tracks.point_tracks import PointTracks

Run = Callable[..., Result]


@pytest.mark.parametrize("suffix", [".npz", ".nc", ".zarr"])
def test_tracks_and_flows_are_recognised(run: Run, suffix: str) -> None:
    tracks = PointTracks.still(np.array([[2, 10.0, 20.0]]), 9)
    save_tracks(tracks, f"tracks{suffix}")
    assert run("info", f"tracks{suffix}").output.startswith("PointTracks(1 point in 9 images, 100 % visible)\n")
    flow = labelled_flow(np.zeros((3, 3, 5, 7, 2)), TokenLayout(3, 5, 7, 80, 112, 9))
    save_flow(flow, f"flow{suffix}")
    expected = "Attention motion flow between 3 frames of 5 x 7 cells (rows x columns)"
    assert run("info", f"flow{suffix}").output.startswith(expected)


def test_evaluations_and_their_checkpoints_are_recognised(run: Run) -> None:
    found = evaluate_tapvid(
        {"goat": make_scene(0), "swan": make_scene(1)}, {"still": StaticTracker()}, checkpoint="clips.jsonl"
    )
    for suffix in (".nc", ".json", ".csv"):
        save_evaluation(found, f"tapvid{suffix}")
    printed = run("info", "tapvid.nc").output
    assert printed.startswith("Evaluation of 1 tracker on 2 clips\n\nmean over 2 clips, %")
    for suffix in (".json", ".csv"):
        assert run("info", f"tapvid{suffix}").output.startswith("Evaluation of trackers as ")
        assert "2 lines of clips and trackers" in run("info", f"tapvid{suffix}").output
    assert "2 clips" in run("info", "clips.jsonl").output


def test_motion_embeddings_and_kept_latents_are_recognised(run: Run) -> None:
    positions = {0: AddedPositions(torch.zeros(6, 10, 10, 128))}
    embedding = MotionEmbedding("mini", Size(40, 40, 6), 50, positions)
    save_embedding(embedding, "left.safetensors")
    assert run("info", "left.safetensors").output == f"{embedding!r}\n"
    save_file({"latents": np.zeros((1, 2), np.float32)}, "fox.step3.safetensors")
    assert "the last good latents of a run that diverged" in run("info", "fox.step3.safetensors").output


def test_clips_the_files_beside_them_and_pickles_are_recognised(run: Run) -> None:
    scene = make_scene(0)
    write_clip("scene.mp4", scene)
    assert "6 images of 40 x 40 px (height x width)" in run("info", "scene.mp4").output
    printed = run("info", "scene.mp4.npz").output
    assert printed.startswith("scene.mp4.npz: ")
    assert "tracks" in printed
    assert "of the clip scene.mp4" in printed
    write_tapvid("one.pkl", {"goat": scene})
    assert run("info", "one.pkl").output.startswith("TAP-Vid pickle of 1 clip\n  goat: Clip(6 images of 40 x 40 px")


def test_selections_and_points_are_recognised(run: Run) -> None:
    Path("layers.json").write_text(
        json.dumps({"format": "ditprobe layer selection", "layers": [5, 4], "backbone": "m"})
    )
    assert run("info", "layers.json").output == "Selection of layers for m: 5, 4\n"
    Path("points.csv").write_text("image,x,y\n0,1,2\n")
    assert run("info", "points.csv").output == "Points to track: 1 point\n"


def test_a_file_of_another_kind_is_not_called_damaged(run: Run) -> None:
    Path("notes.txt").write_text("nothing")
    Path("other.json").write_text("{}")
    np.savez("other.npz", weights=np.ones(3))
    xr.Dataset({"rain": ("day", [1.0])}).to_netcdf("other.nc", engine="scipy")
    save_file({"weight": np.zeros(2, np.float32)}, "other.safetensors")
    for name, holds in {
        "notes.txt": "holds no video",
        "other.json": "is JSON of something else",
        "other.npz": "is an npz file of weights",
        "other.nc": "is a netCDF file of rain",
        "other.safetensors": "is a safetensors file of 1 tensor",
    }.items():
        printed = run("info", name, code=2).output
        assert printed.startswith(f"error: {name} {holds}. It is not a video, a recording, a sweep, tracks, a flow, ")
        assert "damaged" not in printed
        assert "truncated" not in printed


def test_a_damaged_file_of_a_known_kind_is_called_damaged(run: Run) -> None:
    save_tracks(PointTracks.still(np.array([[2, 10.0, 20.0]]), 9), "tracks.npz")
    whole = Path("tracks.npz").read_bytes()
    Path("tracks.npz").write_bytes(whole[: len(whole) // 2])
    assert "damaged" in run("info", "tracks.npz", code=2).output
