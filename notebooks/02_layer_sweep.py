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
# # Which layers carry temporal correspondence?
#
# In the published models, a few layers know where a point of the first frame is in all the others; most do not.
# A **sweep** measures every layer at every step, and `select_layers` says which layers do *and how certain that
# is*. The definitions follow DiffTrack (Nam et al., 2025); the test and the uncertainty are ditprobe's.
#
# The numbers below are those of the small bundled backbone on synthetic scenes. They illustrate the method and say nothing
# about CogVideoX, Wan or HunyuanVideo; the end of this notebook shows how to run the same code on those.

# %%
import os
import shutil
import tempfile
from pathlib import Path

import ditprobe as dp

backbone = dp.load_backbone("mini")
backbone

# %% [markdown]
# ## Sweep
#
# Six unseen scenes, ten of fifty steps, all layers. At each step the model gets the clip with the noise of that
# step (`noise="forward"`). Queries and keys are measured as they are computed; only the results are stored.
#
# `threshold_cells` is how close a match must be. One cell suits this backbone, whose cells are large compared with its
# objects; the default is the published value, half a cell.

# %%
clips = {f"scene {seed}": dp.make_scene(seed) for seed in range(6)}
steps = [0, 5, 11, 16, 22, 27, 33, 38, 44, 49]
sweep = dp.sweep(backbone, clips, dp.Selection(steps=steps, layers="all"), threshold_cells=1.0, per_head=True)
sweep

# %% [markdown]
# The result is an `xarray.Dataset` with one value per clip, step and layer, so the usual tools apply:

# %%
accuracy = sweep["accuracy"].mean("clip")
place = accuracy.argmax(["step", "layer"])
top = accuracy[place]
print(f"highest mean accuracy: {float(top):.1f} % in layer {int(top['layer'])} at step {int(top['step'])}")
print(f"median over layers at the last step: {float(accuracy.isel(step=-1).median()):.1f} %")
print(f"'nothing moves' would score: {float(sweep['static_accuracy'].mean()):.1f} %")

# %% [markdown]
# ## Three measures and their combination
#
# **Accuracy**: how often the best match of a point is where the point really went. Only visible points count, and
# image 0, where the points start, does not.

# %%
dp.plot_layer_step(sweep["accuracy"])

# %% [markdown]
# Compare it with `nothing moves` above, not with zero: much of a scene barely moves, and there a layer that always attends
# to its own cell is right. `moving_accuracy` counts only points that moved by more than a cell, for which `nothing moves`
# scores 0.

# %%
dp.plot_layer_step(sweep["moving_accuracy"])

# %% [markdown]
# **Cross confidence**: the largest attention weight of a point in another frame. It needs no ground truth. A layer can
# be confident and wrong, or right with widely spread attention, so confidence does not replace accuracy.

# %%
dp.plot_layer_step(sweep["confidence"].sel(target="cross"), title="Confidence across frames")

# %% [markdown]
# **Cross attention score** (not plotted here) is all of the attention that goes to other frames. The **harmonic mean** of
# the three is high only where all of them are: where matching is accurate, sharp, and most of what the layer does. Each
# measure is first scaled from 0 to 1 over this whole map, so a harmonic mean ranks the layers of *one* sweep; never compare
# it between models or sweeps.

# %%
dp.plot_layer_step(sweep["harmonic_mean"])

# %% [markdown]
# ## Select layers
#
# Every ranking has a first place, whether or not it means anything. `select_layers` therefore asks a different question:
# which layers beat `nothing moves`? They have to do so on all points, and on moving points, for which `nothing moves` is
# never right and the bar is the best score of a guess that does not know the direction. Both are tested over the clips, for
# all layers at once. The layers that pass are selected, however many they are.

# %%
selection = dp.select_layers(sweep)
selection

# %% [markdown]
# The table starts with accuracy and its lead over the guesses. The harmonic mean comes last: it also rewards sharp and
# strong attention, so a layer that always attends to its own cell can rank high. These are the ranks, and the layers that
# only repeat `nothing moves`:

# %%
for row in selection.table():
    verdict = "beats the baselines" if row["carrier"] else "not shown to beat them"
    print(f"rank {row['rank']}: layer {row['layer']}, {row['moving_accuracy']:.0f} % of moving points, {verdict}")

# %%
dp.plot_selection(selection)

# %% [markdown]
# Six clips are few, and the test is strict: a layer that does not pass has *not been shown* to carry correspondence, which
# is different from *being shown not to*. More clips, more motion or a larger threshold would give more evidence. The
# intervals hold for clips like these, this threshold, these steps and this draw of the noise, not for other kinds of
# video. How much the ranking depends on those choices:

# %%
varied = dp.sweep(
    backbone,
    clips,
    dp.Selection(steps=[16, 33, 49], layers="all"),
    threshold_cells=(1.0, 0.5, 2.0),
    draws=2,
    features=False,
)
settings = dp.stability(varied, 3)
settings[["first", "top", "carries"]].to_dataframe().round(2)

# %% [markdown]
# A layer that is first in every setting can be relied on. A selection is accepted wherever layers are an argument, and can
# be saved with the settings it was measured at (`dp.save_selection(selection, "layers.json")`).
#
# The selected layers over the steps, with the baseline:

# %%
shown = selection.layers or selection.ranked[:1]
dp.plot_best_layers(sweep["accuracy"], shown, baseline=sweep["static_accuracy"])

# %% [markdown]
# ## Heads
#
# The mean over heads can hide specialised heads. Accuracy of each head alone, at the last step:

# %%
last = accuracy.isel(step=-1)
heads = sweep["head_accuracy"].isel(step=-1)
dp.plot_heads(heads, selected=selection.layers, title="Accuracy of single heads at the last step")

# %%
chosen = dp.select_heads(sweep)
chosen

# %% [markdown]
# Each head is tested against "nothing moves" in the same way as a layer, and all heads at once. For a carrier, the
# lower ends of both intervals are above 0.

# %%
best = chosen.table()[0]
layer, head = best["layer"], best["head"]
together = float(last.sel(layer=layer))
print(f"best single head: head {head} of layer {layer}, {best['accuracy']:.1f} %")
print(f"all heads of that layer together: {together:.1f} %")

# %% [markdown]
# The best of many heads is partly luck, because it was chosen on the clips it is scored on. Confirm it on others.
#
# ## Spatial and temporal heads
#
# Another question is *where* a head attends. `sweep_heads` sums the attention of each head over its own frame, the same
# place in other frames, the first frame, the text, and along the true motion; no attention matrix is kept. A head is
# **spatial** if a cell of its own frame gets more attention on average than a cell at the same place in another frame,
# **temporal** if it gets less, and undecided if the interval over clips overlaps the margin (a factor of 1.25).

# %%
masses = dp.sweep_heads(backbone, clips, dp.Selection(steps=[22, 49], layers="all"), progress=False)
decided = dp.decide_heads(masses)
dp.plot_head_classes(decided)

# %% [markdown]
# How certain this is: the same heads at another step, and whether the temporal heads are the ones that match best.

# %%
stable = dp.head_stability(masses)
print(f"order of the heads at steps 22 and 49: {float(stable['step_correlation'][0, 1]):.2f} (Spearman)")
ratio = dp.head_log_ratio(masses).sel(step=49)
moving = sweep["head_moving_accuracy"].sel(step=49)
correlation, low, high = dp.head_rank_correlation(ratio, moving)
print(f"temporal over spatial density and accuracy on moving points: {correlation:.2f} ({low:.2f} to {high:.2f})")

# %% [markdown]
# What it looks like: the attention of the point that moves farthest in a scene, in the most certain head of each class.
# The report has a section with the same figures (`ditprobe heads`, then `ditprobe report --heads heads.nc`).

# %%
shown_heads = dp.make_head_examples(backbone, clips["scene 0"], masses, points=1)
for each in shown_heads:
    title = f"{each.kind} head: layer {each.layer}, head {each.head}"
    dp.plot_attention(each.attention, images=each.clip.images, normalise="point", title=title).show()

# %% [markdown]
# ## Queries and keys, or features?
#
# The output of the attention (its *features*) can be matched too, as is usual with image models.

# %%
dp.plot_layer_step(sweep["feature_accuracy"])

# %%
features = sweep["feature_accuracy"].mean("clip").isel(step=-1)
for number, a, b in zip(last["layer"].values, last.values, features.values):
    print(f"layer {number}: query-key {a:5.1f} %   features {b:5.1f} %   difference {a - b:+5.1f}")
print(f"at the last step, query-key matching is ahead in {int((last > features).sum())} of {last.size} layers")

# %% [markdown]
# ## Save it
#
# The sweep is one netCDF file. The report is one HTML file that opens in any browser without a network; it contains the
# answer, the maps, the tables, and examples of what the best layer tracks.

# %%
folder = Path(tempfile.mkdtemp())  # choose a folder of your own
dp.save_sweep(sweep, folder / "sweep.nc")
again = dp.load_sweep(folder / "sweep.nc")
print("the same numbers:", bool((again["accuracy"] == sweep["accuracy"]).all()))

# %%
few = {name: clips[name] for name in ("scene 0", "scene 1")}
examples = dp.make_examples(backbone, few, layer=shown[0], step=-1)
report = dp.write_report(
    folder / "report.html", sweep, selection, examples=examples, head_masses=masses, head_examples=shown_heads
)
print(report.name, f"{report.stat().st_size / 1e6:.1f} MB")

# %% [markdown]
# ## Your clips
#
# `read_clips` takes a video, a folder of videos, or a folder in the layout of DiffTrack or MTBench with its tracks.
# Clips are resized, together with their tracks, to the size the model takes, and long ones are cut into windows, each an
# entry of `clip`; intervals still resample whole clips. For a clip without tracks, everything except accuracy is measured
# on a grid of points.
#
# This cell reads `det`, real clips with published trajectories, from the folder named by `DITPROBE_DATA`, by default
# `shared/data` next to the repository. If there is none, it says so.

# %%
next_door = Path(dp.__file__).parents[1] / "../shared/data"
data = Path(os.environ.get("DITPROBE_DATA", next_door)) / "det"
if data.is_dir():
    name, clip = next(iter(dp.read_clips(data).items()))
    ends = dp.Selection(steps=[0, -1], layers="all")
    # mini knows only the words of scenes: no prompt in place of the clip's own
    real = dp.sweep(backbone, {name: clip.window(0, 21)}, ends, stride=4, threshold_cells=1.0, prompt="")
    print(real.attrs["windows"], "|", real.attrs["resized"])
    print(real["accuracy"].mean("clip").round(1).to_dataframe()["accuracy"].unstack("layer"))
    print(f"'nothing moves' would score: {float(real['static_accuracy'].mean()):.1f} %")
else:
    print("The real clips are absent: set DITPROBE_DATA to a folder that holds them.")

# %% [markdown]
# ## Your model
#
# The same code works on a real pipeline. Any diffusers pipeline of the CogVideoX, Wan or HunyuanVideo family can be passed
# as an object, with its components offloaded if necessary. The code below needs a GPU and the weights, and is not run here.
#
# ```python
# import torch
# from diffusers import CogVideoXPipeline
#
# pipeline = CogVideoXPipeline.from_pretrained("THUDM/CogVideoX-2b", torch_dtype=torch.float16)
# pipeline.enable_model_cpu_offload()
# backbone = dp.load_backbone(pipeline)
#
# # or by name:
# backbone = dp.load_backbone("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", device="cuda", dtype="bfloat16")
# backbone = dp.load_backbone("hunyuanvideo-community/HunyuanVideo", device="cuda", dtype="bfloat16")
# ```
#
# Then sweep clips with tracks, or prompts. A prompt is analysed while its video is generated; pass the video's tracks as
# `truth` if you have them (from a tracker run on the same seed), otherwise there is confidence but no accuracy.
#
# ```python
# clips = dp.read_clips("my_clips")
# sweep = dp.sweep(
#     backbone, clips, dp.Selection(steps=range(0, 50, 7), layers="all"),
#     save="sweep.nc", resume=True,  # one clip at a time; resumes where it stopped
# )
# sweep = dp.sweep(backbone, {"dog": "a dog runs along the beach"}, dp.Selection(steps=[-1], layers="all"))
# ```
#
# For numbers that are comparable with the published ones, pass `preset="difftrack"`, which reproduces the released code
# with its rounding, and leave `threshold_cells` at 0.5.

# %%
shutil.rmtree(folder)
