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
# A **sweep** measures every layer at every step, and `select_layers` says which are shown to do it *and how sure that
# is*. The definitions follow DiffTrack (Nam et al., 2025); the test and the uncertainty are ours.
#
# The numbers below are those of the small bundled backbone on synthetic scenes. They show the method. They say nothing
# about CogVideoX, Wan or HunyuanVideo: the end of this notebook shows how to point the same lines at them.

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
# Six scenes that the model has not seen, ten of fifty steps, all layers. Each step sees the clip with the noise of that
# step (`noise="forward"`). Queries and keys are measured where they are made, and nothing is stored but the numbers.
#
# `threshold_cells` is how near a match must be. One cell suits this backbone, whose cells are coarse beside its
# objects; the published value is half a cell, which is the default.

# %%
clips = {f"scene {seed}": dp.make_scene(seed) for seed in range(6)}
steps = [0, 5, 11, 16, 22, 27, 33, 38, 44, 49]
sweep = dp.sweep(backbone, clips, dp.Selection(steps=steps, layers="all"), threshold_cells=1.0, per_head=True)
sweep

# %% [markdown]
# The result is an `xarray.Dataset` with a value for each clip, step and layer, so the usual tools apply:

# %%
accuracy = sweep["accuracy"].mean("clip")
place = accuracy.argmax(["step", "layer"])
top = accuracy[place]
print(f"highest mean accuracy: {float(top):.1f} % in layer {int(top['layer'])} at step {int(top['step'])}")
print(f"median over layers at the last step: {float(accuracy.isel(step=-1).median()):.1f} %")
print(f"'nothing moves' would score: {float(sweep['static_accuracy'].mean()):.1f} %")

# %% [markdown]
# ## Three measures, and one of all three
#
# **Accuracy**: how often the best match of a point lies where the point really went. Only visible points count, and
# image 0, where the points start, does not.

# %%
dp.plot_layer_step(sweep["accuracy"])

# %% [markdown]
# Read it against `nothing moves` above, not against zero: much of a scene barely moves, and a layer that always looks
# at its own cell is right there. `moving_accuracy` counts only what moved by more than a cell, where standing still
# scores 0.

# %%
dp.plot_layer_step(sweep["moving_accuracy"])

# %% [markdown]
# **Cross confidence**: the largest attention weight that a point has in another frame. It needs no truth. A layer can
# be confident and wrong, or right with its attention spread thin, so it is no substitute for accuracy.

# %%
dp.plot_layer_step(sweep["confidence"].sel(target="cross"), title="Confidence across frames")

# %% [markdown]
# **Cross attention score** (not drawn here) is all of the attention that goes to other frames. The **harmonic mean** of
# the three is high only where all are: where matching is right, sharp, and most of what the layer does. Each measure is
# first scaled from 0 to 1 over this whole map, so a harmonic mean ranks the layers of *one* sweep: never compare it
# between models or sweeps.

# %%
dp.plot_layer_step(sweep["harmonic_mean"])

# %% [markdown]
# ## Select layers
#
# A ranking always has a first. So `select_layers` asks something else first: which layers beat `nothing moves`? On all
# points, and on moving ones, where that guess is never right and the bar is the most that a guess without direction can
# score. Both are tested over the clips, for all layers at once; the layers that pass are selected, be it one or none.

# %%
selection = dp.select_layers(sweep)
selection

# %% [markdown]
# Accuracy leads, with its lead over the guesses. The ranking by the harmonic mean comes last: it also rewards sharp and
# strong attention, so a layer that always looks at its own cell can rank high. Here is who ranks where, and who only
# repeats `nothing moves`:

# %%
for row in selection.table():
    verdict = "beats the baselines" if row["carrier"] else "not shown to beat them"
    print(f"rank {row['rank']}: layer {row['layer']}, {row['moving_accuracy']:.0f} % of moving points, {verdict}")

# %%
dp.plot_selection(selection)

# %% [markdown]
# Six clips are few, and the test is strict: what does not pass is *not shown*, which is not *shown to be wrong*. More
# clips, more motion or a larger threshold would tell more. The intervals are about clips like these, not other kinds of
# video, and about this threshold, these steps and this draw of the noise. How far the ranking depends on those:

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
# The layer that is first everywhere can be built on. A selection is a value: it goes where layers are asked for, and to
# disk with what it was measured at (`dp.save_selection(selection, "layers.json")`).
#
# The selected layers over the steps, with the baseline:

# %%
shown = selection.layers or selection.ranked[:1]
dp.plot_best_layers(sweep["accuracy"], shown, baseline=sweep["static_accuracy"])

# %% [markdown]
# ## Heads
#
# The mean over heads hides specialists. Accuracy of each head alone, at the last step:

# %%
last = accuracy.isel(step=-1)
heads = sweep["head_accuracy"].isel(step=-1)
dp.plot_heads(heads, selected=selection.layers, title="Accuracy of single heads at the last step")

# %%
mean = heads.mean("clip")
layer, head = (int(mean[mean.argmax(["layer", "head"])][name]) for name in ("layer", "head"))
together = float(last.sel(layer=layer))
print(f"best single head: head {head} of layer {layer}, {float(mean.max()):.1f} %")
print(f"all heads of that layer together: {together:.1f} %")

# %% [markdown]
# The best of many heads is partly luck: it was chosen on the clips it is scored on. Confirm it on others.
#
# ## Queries and keys, or features?
#
# One can also match the output of the attention (its *features*), as is usual with image models.

# %%
dp.plot_layer_step(sweep["feature_accuracy"])

# %%
features = sweep["feature_accuracy"].mean("clip").isel(step=-1)
for number, a, b in zip(last["layer"].values, last.values, features.values):
    print(f"layer {number}: query-key {a:5.1f} %   features {b:5.1f} %   difference {a - b:+5.1f}")
print(f"at the last step, query-key matching is ahead in {int((last > features).sum())} of {last.size} layers")

# %% [markdown]
# ## Keep it
#
# The sweep is one netCDF file. The report is one HTML file that opens in any browser without a network: the answer, the
# maps, the tables, and examples of what the best layer tracks.

# %%
folder = Path(tempfile.mkdtemp())  # choose a folder of your own
dp.save_sweep(sweep, folder / "sweep.nc")
again = dp.load_sweep(folder / "sweep.nc")
print("the same numbers:", bool((again["accuracy"] == sweep["accuracy"]).all()))

# %%
few = {name: clips[name] for name in ("scene 0", "scene 1")}
examples = dp.make_examples(backbone, few, layer=shown[0], step=-1)
report = dp.write_report(folder / "report.html", sweep, selection, examples=examples)
print(report.name, f"{report.stat().st_size / 1e6:.1f} MB")

# %% [markdown]
# ## Your clips
#
# `read_clips` takes a video, a folder of videos, or a folder in the layout of DiffTrack or MTBench with its tracks.
# Clips are resized to what the model takes, with their tracks, and long ones are cut into windows, each an entry of
# `clip`; intervals still resample whole clips. A clip without tracks gets a grid of points: everything but accuracy.
#
# This cell reads `det`, real clips with published trajectories, from the folder that `DITPROBE_DATA` names, by default
# `shared/data` beside the repository, and says so where there is none.

# %%
beside = Path(dp.__file__).parents[1] / "../shared/data"
data = Path(os.environ.get("DITPROBE_DATA", beside)) / "det"
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
# The same lines on a real pipeline. Any diffusers pipeline of the CogVideoX, Wan or HunyuanVideo family can be passed
# as an object, with its parts offloaded if need be. The code below needs a GPU and the weights, and is not run here.
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
# Then sweep clips with tracks, or prompts. A prompt is analysed while it is generated; pass its tracks as `truth` if
# you have them (from a tracker run on the same seed), otherwise there is confidence but no accuracy.
#
# ```python
# clips = dp.read_clips("my_clips")
# sweep = dp.sweep(
#     backbone, clips, dp.Selection(steps=range(0, 50, 7), layers="all"),
#     save="sweep.nc", resume=True,  # one clip at a time; goes on where it stopped
# )
# sweep = dp.sweep(backbone, {"dog": "a dog runs along the beach"}, dp.Selection(steps=[-1], layers="all"))
# ```
#
# For numbers to compare with the published ones, pass `preset="difftrack"`, which reproduces the released code with its
# rounding, and leave `threshold_cells` at 0.5.

# %%
shutil.rmtree(folder)
