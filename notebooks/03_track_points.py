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
# A layer whose queries and keys match the same point in two images is a tracker that nobody trained. `track_points`
# makes it one: a clip of any length and some points go in, tracks with visibility and confidence come out. This
# notebook tracks, looks at what came out, and evaluates it beside other trackers with the metrics of TAP-Vid.
#
# The numbers are those of the small bundled backbone on drawn scenes. They show how things are done, and say nothing
# about large models: the end of this notebook shows how to point the same lines at them.

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
# The model takes six images at once and this scene has twelve. `track_points` cuts it into chunks, each with the image
# in which the points are known, and averages what overlapping chunks say; only one group of chunks is ever in memory,
# however long the clip.
#
# A query is `(image, x, y)`: which image, and where in it, in pixels of the clip. It may lie in *any* image. These lie
# in image 4 and are followed forward to image 11 and backward to image 0. Layer, step and heads are what is known to
# work for this backbone; `layer=`, `step=` and `heads=` choose others.

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
# Colour says where a point was asked for, a trail where it has been, and a hollow mark that the tracker calls it
# hidden. The dark bar marks the image of the queries.

# %%
few = dp.track_points(scene, queries[::3], backbone)
Image.fromarray(dp.overlay_strip(scene.images, few, 6, scale=4))

# %% [markdown]
# The same as a video, as `ditprobe track clip.mp4 --grid 8` writes it. (GitHub shows no videos in notebooks;
# JupyterLab and VS Code do.) `drawn_images` draws one image at a time, so that long clips do not fill the memory.

# %%
dp.write_video(folder / "tracked.mp4", dp.drawn_images(scene.images, few, scale=6), scene.fps, crf=18)
Video(folder / "tracked.mp4", embed=True, html_attributes="controls loop muted")

# %% [markdown]
# Here the truth is known, so `plot_tracks` can draw the errors: discs are predictions, crosses the truth, the lines
# between them the error. Move the slider. Without `tracks=` it draws predictions alone.

# %%
truth, visible = scene.tracks[:, seen], scene.visibility[:, seen]
dp.plot_tracks(scene.images, tracks, tracks=truth, visibility=visible, title="Tracks of mini, asked for in image 4")

# %% [markdown]
# ## What confidence and visibility mean
#
# **Confidence** is the share of a point's matching cost that lies around its match: near 1 where one place stands out,
# small where many fit. It is no probability; compare it within one clip and backbone. Does it tell good matches from
# bad ones here? The visible points of all other images, in four equal parts from least to most confident:

# %%
error = np.linalg.norm(tracks.tracks - truth, axis=-1)
other = np.arange(len(scene)) != asked_in
counted = visible & other[:, None]
table = pd.DataFrame({"confidence": tracks.confidence[counted], "error": error[counted]})
part = pd.qcut(table["confidence"], 4, labels=["least", "less", "more", "most"])
table.groupby(part, observed=True)["error"].median().rename("median error, px").round(2).to_frame()

# %% [markdown]
# **Visibility** asks whether the way back agrees: the match of a point is matched back to the image of the query, and
# where that ends too far from where the point came from, or the match lies outside the image, the point is called
# hidden. That is a guess from consistency, and wrong both ways at times:

# %%
names = {True: "visible", False: "hidden"}
pd.crosstab(
    pd.Series(visible[other].ravel(), name="truly").map(names),
    pd.Series(tracks.visibility[other].ravel(), name="called").map(names),
)

# %% [markdown]
# ## Evaluate
#
# One scene is an anecdote. Ten scenes, all trackers on the same clips and queries, by TAP-Vid's metrics: **position
# accuracy** is the share of visible points within 1, 2, 4, 8 and 16 px of a 256 x 256 image, averaged over these;
# **occlusion accuracy** the share of points rightly called visible or hidden; **Jaccard** needs both right.
#
# * *nothing moves* needs no model; whoever does not beat it has found nothing;
# * *raw patches* are the pixels of each cell, matched on the backbone's own grid; whoever does not beat them did not
#   need a model;
# * *optical flow* (OpenCV) is chained from image to image.
#
# A tracker is anything that is called with images and queries and returns `PointTracks`, so your own takes part as
# these do. Here each is wrapped in one that keeps the tracks, since the metrics alone cannot be looked at.

# %%
kept = {}


def keeping(name, tracker):
    """The same tracker, which remembers what it found."""

    def track(images, queries):
        kept.setdefault(name, []).append(tracker(images, queries))
        return kept[name][-1]

    return track


trackers = {
    "mini": dp.BackboneTracker(backbone),
    "raw patches": dp.PatchTracker.on_grid(backbone.layout(*backbone.default_size)),
    "nothing moves": dp.StaticTracker(),
    "optical flow": dp.FlowTracker(),
}
scenes = {f"scene {seed}": dp.make_scene(seed, images=12, cell=5.0) for seed in range(10)}
evaluation = dp.evaluate_tapvid(scenes, {name: keeping(name, tracker) for name, tracker in trackers.items()})
evaluation[["average_pts_within_thresh", "average_jaccard", "occlusion_accuracy"]]

# %% [markdown]
# Means over the scenes with 95 % intervals. The intervals resample whole scenes: what other scenes of this kind would
# have given.


# %%
def as_table(evaluation):
    """Percent, with the ends of the interval."""
    columns = {"position": "average_pts_within_thresh", "Jaccard": "average_jaccard", "occlusion": "occlusion_accuracy"}
    means = dp.tapvid_means(evaluation)
    cells = {
        column: [f"{mean:.1f} ({low:.1f} to {high:.1f})" for mean, low, high in means[metric].values]
        for column, metric in columns.items()
    }
    return pd.DataFrame(cells, index=means["tracker"].values)


as_table(evaluation)

# %% [markdown]
# Means hide scenes. Every dot is a scene, a line joins the same one:

# %%
dp.plot_clip_scores(evaluation["average_pts_within_thresh"])

# %% [markdown]
# **Optical flow is far ahead**, and that is no contradiction. It compares neighbouring images pixel by pixel, and these
# scenes, crisp, evenly lit and moving little from image to image, are the easiest thing it can meet. The backbone sees
# cells: how coarse they are on TAP-Vid's raster is printed below. And it was trained to remove noise, not to follow
# points. The question to it is another one: do its queries and keys *know* where a point is? The trackers to beat for
# that are nothing moves and raw patches, which see no more than it does. Whoever needs tracks of drawn scenes should
# take flow.

# %%
cell = backbone.layout(*backbone.default_size).cell_size[0]
raster = 256 * cell / scene.width
print(f"A cell of {cell:g} px of a {scene.width} px image is {raster:.1f} px of TAP-Vid's raster.")

# %% [markdown]
# ## Errors over time, and by threshold
#
# `tracking_errors` compares tracks with the truth; `tapvid_queries` says which points were asked for, which is how the
# evaluation chose them (mode `"first"`: each in the first image that shows it).

# %%
errors = {name: {} for name in trackers}
for number, (name, clip) in enumerate(scenes.items()):
    _, owner = dp.tapvid_queries(clip.tracks, clip.visibility)
    true_tracks, true_visibility = clip.tracks[:, owner], clip.visibility[:, owner]
    for label in trackers:
        errors[label][name] = dp.tracking_errors(
            kept[label][number], true_tracks, true_visibility, (clip.height, clip.width)
        )
errors = dp.gather_errors(errors)
dp.plot_error_over_time(errors["error"])

# %% [markdown]
# Chained flow adds the errors of its steps. The backbone compares every image with that of the query, so nothing adds
# up, but what looks different from afar is harder to match.

# %%
dp.plot_accuracy_per_threshold(errors["within"])

# %% [markdown]
# A chain that loses a point behind something goes on with what hides it; matching with the image of the query can
# find it again. So the same, only for points that were hidden on the way and are visible again:

# %%
again = {name: [] for name in trackers}
for number, clip in enumerate(scenes.values()):
    _, owner = dp.tapvid_queries(clip.tracks, clip.visibility)
    visible = clip.visibility[:, owner]
    asked = np.cumsum(visible, axis=0) > 0
    back = visible & (np.cumsum(asked & ~visible, axis=0) > 0)
    for label in trackers:
        distance = np.linalg.norm(kept[label][number].tracks - clip.tracks[:, owner], axis=-1)
        again[label].extend(distance[back] < cell)
print(f"{len(again['mini'])} positions of points that came back; found within one cell:")
for label, found in again.items():
    print(f"{label:15s} {100 * np.mean(found):5.1f} %")

# %% [markdown]
# ## The published procedure
#
# DiffTrack (Nam et al., 2025) tracks with the same queries and keys in its own way. Every part of it is a switch of
# `TrackingOptions`, and all of them together are the preset `PUBLISHED` (`--preset difftrack-tracking` in the shell),
# which reproduces the numbers of the released code on the same queries and keys. It calls every point visible, takes
# the best cell without refining it, and indexes cells as the release does. It was made for large images, where a cell
# is small; here a cell is wider than the largest threshold. Four scenes, and the largest threshold (16 px) beside the
# average; whole sets are compared, with each part's worth, in [benchmarks](../docs/benchmarks.md).

# %%
published = {"published": dp.BackboneTracker(backbone, options=PUBLISHED), "mini": trackers["mini"]}
beside_published = dp.evaluate_tapvid({name: scenes[name] for name in list(scenes)[:4]}, published)
within_16 = beside_published["pts_within_16"].mean("clip")
as_table(beside_published).assign(**{"within 16 px": within_16.round(1).values})

# %% [markdown]
# ## A real clip
#
# Filmed clips are another matter: this backbone has only ever seen drawn shapes. The cell reads `det`, clips whose
# published tracks come from a tracker, from the folder that `DITPROBE_DATA` names, by default `shared/data` beside the
# repository, and says so where there is none. Every fourth image of one clip, shown to the model as 48 x 32 px:

# %%
beside = Path(dp.__file__).parents[1] / "../shared/data"
data = Path(os.environ.get("DITPROBE_DATA", beside)) / "det"
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
# ## Keep them
#
# Tracks are saved as `.npz`, `.nc` or `.zarr`, and as a pickle in TAP-Vid's layout for tools that read that.

# %%
dp.save_tracks(tracks, folder / "tracks.npz")
print(dp.load_tracks(folder / "tracks.npz"))
predicted = dp.Clip(scene.images, scene.fps, tracks=tracks.tracks, visibility=tracks.visibility)
dp.write_tapvid(folder / "predicted.pkl", {"scene 4": predicted})
print(dp.read_tapvid(folder / "predicted.pkl")["scene 4"])

# %% [markdown]
# ## Your model, TAP-Vid, CoTracker
#
# The same lines on CogVideoX (they need a GPU and the weights, and are not run here). `track_points` knows the layer
# and step that DiffTrack selected for it; for a model that nobody has swept, notebook 02 finds them.
#
# ```python
# backbone = dp.load_backbone("THUDM/CogVideoX-2b", device="cuda", dtype="float16")
# tracks = dp.track_points(dp.read_clip("clip.mp4"), queries, backbone)
# tracks = dp.track_points(dp.read_clip("clip.mp4"), queries, backbone, options=PUBLISHED)
# ```
#
# A TAP-Vid file (DAVIS, RGB-stacking, Kinetics, RoboTAP) is read without running anything that is in the pickle:
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
# CoTracker is plugged in as a tracker beside the others. `from_hub` downloads code and weights and runs them; with a
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
