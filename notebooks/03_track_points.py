# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Track points
#
# A layer whose queries and keys match the same point in two images can track points without any training. `track_points`
# uses it as a tracker: it takes a clip of any length and some points, and returns tracks with visibility and confidence.
# This notebook tracks points, examines the tracks, and compares them with other trackers by the metrics of TAP-Vid.
#
# The numbers are those of the small bundled backbone on synthetic scenes. They illustrate the method and say nothing
# about large models; the end of this notebook shows how to run the same code on those.

# %%
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Video
from PIL import Image

import ditprobe as dp
from analyses.tracking.track import PUBLISHED

folder = Path(tempfile.mkdtemp())  # the last cell removes it
backbone = dp.load_backbone("mini")
backbone

# %% [markdown]
# ## Track
#
# The model takes six images at once and this scene has twelve. `track_points` cuts it into chunks, each of which includes
# the image in which the points are known. Only one group of chunks is in memory at a time, however long the clip.
#
# A query is `(image, x, y)`: the image, and the position in it in pixels of the clip. It can be in *any* image. These are
# in image 4 and are tracked forward to image 11 and backward to image 0. Layer, step and heads default to those known to
# work for this backbone; `layer=`, `step=` and `heads=` select others.

# %%
scene = dp.make_scene(4, images=12, cell=5.0)
print(scene.prompt)

asked_in = 4
seen = scene.visibility[asked_in]
points = scene.tracks[asked_in, seen]
points = np.clip(points, 0, [scene.width, scene.height])  # a point on the border may lie a hair outside
queries = np.column_stack([np.full(len(points), asked_in), points])
tracks = dp.track_points(scene, queries, backbone)
tracks

# %% [markdown]
# ## Look
#
# A point's colour encodes where it was queried, its trail shows where it has been, and a hollow mark means that the tracker
# considers it hidden. The dark bar marks the image of the queries.

# %%
few = dp.track_points(scene, queries[::3], backbone)
Image.fromarray(dp.overlay_strip(scene.images, few, 6, scale=4))

# %% [markdown]
# The same as a video, as written by `ditprobe track clip.mp4 --grid 8`. (GitHub does not show videos in notebooks;
# JupyterLab and VS Code do.) `drawn_images` draws one image at a time, so long clips do not fill the memory.

# %%
dp.write_video(folder / "tracked.mp4", dp.drawn_images(scene.images, few, scale=6), scene.fps, crf=18)
Video(folder / "tracked.mp4", embed=True, html_attributes="controls loop muted")

# %% [markdown]
# The truth is known here, so `plot_tracks` can show the errors: discs are predictions, crosses the truth, and lines the
# errors. Press play, or move the slider. Without `tracks=` it shows predictions only.

# %%
truth, visible = scene.tracks[:, seen], scene.visibility[:, seen]
dp.plot_tracks(scene.images, tracks, tracks=truth, visibility=visible, title="Tracks of mini, asked for in image 4")

# %% [markdown]
# ## Look closer
#
# A cell of this backbone is 4 px wide, and a match is a mean over a few cells: most points lie in the right cell, and not
# much is known within it. Attention matches best what stays where it is. So with `levels=(1, 1, 2)` the model looks again
# at the images with the coarse motion taken out, and then at crops of half the side that follow points that move alike. The
# time grows with the number of crops, which `max_crops` limits. These are the distances from the truth in pixels, and the
# paths of some points: the true ones, the coarse ones, and those of the closer look.

# %%
closer = dp.track_points(scene, queries, backbone, options=dp.TrackingOptions(levels=(1, 1, 2), max_crops=5))
shown = visible & (np.arange(len(scene)) != asked_in)[:, None]
distances = {
    name: np.linalg.norm(found.tracks - truth, axis=-1)[shown]
    for name, found in {"coarse": tracks, "closer": closer}.items()
}
print(closer.details["crops"], "crops;", closer.details["chunks"], "chunks instead of", tracks.details["chunks"])
pd.DataFrame(distances).quantile([0.25, 0.5, 0.75, 0.9]).rename_axis("quantile").round(2)

# %%
dp.plot_closer(scene.images, tracks, closer, tracks=truth, visibility=visible, title="Tracks of mini, looked at closer")

# %% [markdown]
# ## What confidence and visibility mean
#
# **Confidence** is the fraction of a point's matching cost that falls around its match: near 1 if one place stands out,
# small if many fit. It is not a probability; compare it only within one clip and backbone. Does it tell good matches from
# bad ones here? The visible points of all other images, in quarters from least to most confident:

# %%
error = np.linalg.norm(tracks.tracks - truth, axis=-1)
other = np.arange(len(scene)) != asked_in
counted = visible & other[:, None]
table = pd.DataFrame({"confidence": tracks.confidence[counted], "error": error[counted]})
part = pd.qcut(table["confidence"], 4, labels=["least", "less", "more", "most"])
table.groupby(part, observed=True)["error"].median().rename("median error, px").round(2).to_frame()

# %% [markdown]
# **Visibility** is decided by a cycle check: the match of a point is matched back to the image of the query. If that ends
# too far from the point, or if the match is outside the image, the point is called hidden. This is a guess based on
# consistency, and can be wrong in both directions:

# %%
names = {True: "visible", False: "hidden"}
pd.crosstab(
    pd.Series(visible[other].ravel(), name="truly").map(names),
    pd.Series(tracks.visibility[other].ravel(), name="called").map(names),
)

# %% [markdown]
# ## Evaluate
#
# One scene is an anecdote. Here are ten scenes, with all trackers on the same clips and queries, by TAP-Vid's metrics:
# **position accuracy** is the percentage of visible points within 1, 2, 4, 8 and 16 px of a 256 x 256 image, averaged over
# these thresholds; **occlusion accuracy** is the percentage of points correctly called visible or hidden; **Jaccard**
# requires both to be right.
#
# * *nothing moves* needs no model; a tracker that does not beat it has found nothing;
# * *raw patches* are the pixels of each cell, matched on the backbone's own grid; a tracker that does not beat them did not
#   need a model;
# * *optical flow* (OpenCV) is chained from image to image.
#
# A tracker is anything that is called with images and queries and returns `PointTracks`, so your own can take part in the
# same way. `compare_trackers` evaluates all of them and keeps what they found: `compared.tracked[tracker][scene]` holds the
# tracks, and the truth of the same points.

# %%
trackers = {
    "mini": dp.BackboneTracker(backbone),
    "raw patches": dp.PatchTracker.on_grid(backbone.layout(*backbone.default_size)),
    "nothing moves": dp.StaticTracker(),
    "optical flow": dp.FlowTracker(),
}
scenes = {f"scene {seed}": dp.make_scene(seed, images=12, cell=5.0) for seed in range(10)}
compared = dp.compare_trackers(scenes, trackers)
evaluation = compared.evaluation
evaluation[["average_pts_within_thresh", "average_jaccard", "occlusion_accuracy"]]

# %% [markdown]
# Means over the scenes with 95 % intervals. The intervals resample whole scenes: they show how much the result would vary
# with other scenes of this kind.

# %%
dp.evaluation_table(evaluation)

# %% [markdown]
# Means hide single scenes. Every dot is a scene, and a line joins the dots of the same scene:

# %%
dp.plot_clip_scores(evaluation["average_pts_within_thresh"])

# %% [markdown]
# **Optical flow is far ahead**, which is not a contradiction. It compares neighbouring images pixel by pixel, and these
# scenes are as easy for it as can be: sharp, evenly lit, and with little motion from image to image. The backbone works on
# cells, whose size on TAP-Vid's raster is printed below, and it was trained to remove noise, not to track points. The
# question is a different one: do its queries and keys *know* where a point is? The baselines for that are nothing moves and
# raw patches, which have no more information than the backbone. To get tracks of synthetic scenes, use optical flow.

# %%
cell = backbone.layout(*backbone.default_size).cell_size[0]
raster = 256 * cell / scene.width
print(f"A cell of {cell:g} px of a {scene.width} px image is {raster:.1f} px of TAP-Vid's raster.")

# %% [markdown]
# ## Errors over time, and by threshold
#
# The evaluation also holds how far every tracker is off, over the images since the query and by threshold;
# `tracking_errors` computes the same from tracks of your own.

# %%
dp.plot_error_over_time(evaluation["error"])

# %% [markdown]
# Chained flow accumulates the errors of its steps. The backbone compares every image with the image of the query, so
# errors do not accumulate, but points whose appearance has changed are harder to match.

# %%
dp.plot_accuracy_per_threshold(evaluation["within"])

# %% [markdown]
# When a chain loses a point behind an object, it continues with the object; matching with the image of the query can
# find the point again. Here is the same comparison for only those points that were hidden in between and are visible
# again:

# %%
again = {name: [] for name in trackers}
for label in trackers:
    for one in compared.tracked[label].values():
        visible = one.clip.visibility
        asked = np.cumsum(visible, axis=0) > 0
        back = visible & (np.cumsum(asked & ~visible, axis=0) > 0)
        distance = np.linalg.norm(one.tracks.tracks - one.clip.tracks, axis=-1)
        again[label].extend(distance[back] < cell)
print(f"{len(again['mini'])} positions of points that came back; found within one cell:")
for label, found in again.items():
    print(f"{label:15s} {100 * np.mean(found):5.1f} %")

# %% [markdown]
# ## The published procedure
#
# DiffTrack (Nam et al., 2025) tracks with the same queries and keys by a different procedure. Every part of it is a field
# of `TrackingOptions`, and together they are the preset `PUBLISHED` (`--preset difftrack-tracking` in the shell),
# which reproduces the numbers of the released code on the same queries and keys. It calls every point visible, takes
# the best cell without refining it, and indexes cells as the release does. It was designed for large images, in which a
# cell is small; here a cell is wider than the largest threshold. The table has four scenes, and the largest threshold
# (16 px) next to the average. [Benchmarks](../docs/benchmarks/tracking.md) compares whole sets and the gain from each part.

# %%
published = {"published": dp.BackboneTracker(backbone, options=PUBLISHED), "mini": trackers["mini"]}
both_procedures = dp.evaluate_tapvid({name: scenes[name] for name in list(scenes)[:4]}, published)
within_16 = both_procedures["pts_within_16"].mean("clip")
dp.evaluation_table(both_procedures).assign(**{"within 16 px": within_16.round(1).values})

# %% [markdown]
# ## A real clip
#
# Real clips are different: this backbone was trained only on drawn shapes. The cell reads `det`, clips whose
# published tracks come from a tracker, from the folder named by `DITPROBE_DATA`, by default `shared/data` next to the
# repository; if there is none, it says so. It uses every fourth image of one clip, resized to 48 x 32 px for the model:

# %%
next_door = Path(dp.__file__).parents[1] / "../shared/data"
data = Path(os.environ.get("DITPROBE_DATA", next_door)) / "det"
if data.is_dir():
    name, clip = next(iter(dp.read_clips(data).items()))
    small = clip[::4].resized(32, 48)
    on_grid = dp.PatchTracker.on_grid(backbone.layout(32, 48, backbone.default_size.images))
    real = trackers | {"mini": dp.BackboneTracker(backbone, size=(32, 48)), "raw patches": on_grid}
    scores = dp.evaluate_tapvid({name: small}, real, first_image_only=True)
    for label in real:
        value = float(scores["average_pts_within_thresh"].sel(tracker=label).squeeze())
        print(f"{label:15s} position accuracy {value:5.1f} %")
    print(f"one clip of {len(small)} images: no interval, and no ranking of trackers")
else:
    print("The real clips are absent: set DITPROBE_DATA to a folder that holds them.")

# %% [markdown]
# ## Save them
#
# Tracks are saved as `.npz`, `.nc` or `.zarr`, or as a pickle in TAP-Vid's layout for tools that read it.

# %%
dp.save_tracks(tracks, folder / "tracks.npz")
print(dp.load_tracks(folder / "tracks.npz"))
predicted = dp.Clip(scene.images, scene.fps, tracks=tracks.tracks, visibility=tracks.visibility)
dp.write_tapvid(folder / "predicted.pkl", {"scene 4": predicted})
print(dp.read_tapvid(folder / "predicted.pkl")["scene 4"])

# %% [markdown]
# ## Your model, TAP-Vid, CoTracker
#
# The same code on CogVideoX (it needs a GPU and the weights, and is not run here). `track_points` knows the layer
# and step that DiffTrack selected for it; for a model that has not been swept yet, notebook 02 finds them.
#
# ```python
# backbone = dp.load_backbone("THUDM/CogVideoX-2b", device="cuda", dtype="float16")
# tracks = dp.track_points(dp.read_clip("clip.mp4"), queries, backbone)
# tracks = dp.track_points(dp.read_clip("clip.mp4"), queries, backbone, options=PUBLISHED)
# ```
#
# A TAP-Vid file (DAVIS, RGB-stacking, Kinetics, RoboTAP) is read without executing anything in the pickle:
#
# ```python
# clips = dp.read_tapvid("tapvid_davis.pkl", size=(256, 256))
# evaluation = dp.evaluate_tapvid(clips, {"CogVideoX-2b": dp.BackboneTracker(backbone)}, checkpoint="davis.jsonl")
# ```
#
# ```console
# ditprobe eval-tapvid --data tapvid_davis.pkl --tracker backbone --tracker flow -b THUDM/CogVideoX-2b --resume
# ditprobe track clip.mp4 --grid 10 -b THUDM/CogVideoX-2b
# ```
#
# CoTracker is used as one more tracker. `from_hub` downloads its code and weights and runs them; with a
# local copy, `from_checkpoint` downloads nothing:
#
# ```python
# trackers = {
#     "CogVideoX-2b": dp.BackboneTracker(backbone),
#     "CoTracker3": dp.CoTracker.from_checkpoint("scaled_offline.pth", repository="co-tracker/", device="cuda"),
# }
# evaluation = dp.evaluate_tapvid(clips, trackers)
# ```

# %%
shutil.rmtree(folder)
