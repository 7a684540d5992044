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
# # Record and look
#
# In every self-attention layer, a video diffusion transformer turns each token into a **query** and a **key**;
# how well a query fits a key decides how much information passes between two tokens. This notebook records queries and
# keys, opens the recording, and examines them: where a point attends to, what the tokens of a layer have in common,
# and whether attention finds a moving point again.
#
# Everything runs on a small backbone that is bundled with ditprobe, in seconds and without a GPU or a network.
# It is built from the classes of CogVideoX, so the same code works on the real model.
#
# In JupyterLab and VS Code the figures are interactive; on GitHub they are still images.

# %%
import shutil
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr

import ditprobe as dp

folder = Path(tempfile.mkdtemp())  # recordings of this notebook; the last cell removes them

# %% [markdown]
# ## The backbone
#
# `load_backbone` takes `"mini"`, a local folder, a name on the Hugging Face hub, or a diffusers pipeline that you have
# already loaded. Layers are numbered from 0 in the order in which they run, over all self-attention layers.

# %%
backbone = dp.load_backbone("mini")
backbone

# %%
for layer in backbone.layers:
    print(layer.index, layer.name, f"{layer.heads} heads x {layer.channels} channels")

# %% [markdown]
# ## A scene whose motion is known
#
# `make_scene` draws textured shapes over a moving background and knows where every point goes and when it is hidden.
# The model was trained on other scenes of this kind, with seeds of 10,000,000 and above.

# %%
scene = dp.make_scene(9)
scene

# %%
dp.plot_images(scene)

# %% [markdown]
# The model does not process pixels but tokens on a grid of `frame`, `y`, `x`. The **layout** says what each token
# stands for. A *frame* is a latent frame; an *image* is one picture of the video. Here each frame covers one image.
# In the large models the first frame covers image 0 alone and every later one covers four images (or as many as the
# video autoencoder compresses), so never use a frame number as an image number: ask the layout.

# %%
layout = backbone.layout(scene.height, scene.width, len(scene), scene.prompt)
print(f"{layout.frames} frames of {layout.height} x {layout.width} cells of {layout.cell_size} pixels (dy, dx)")
print("images of each frame:", [list(span) for span in layout.spans])
print("text tokens in the same attention:", layout.text_tokens)

# %% [markdown]
# ## Record a clip
#
# A `Selection` says which steps and layers to keep. A **step** is a denoising step, 0 = most noise, -1 = the last;
# the **timestep** is the scheduler's own value at that step, and is stored with it.
#
# A clip is not denoised, so the model is run on it once at each selected step. With `noise="forward"` the clip gets
# the amount of noise that the model expects there. Look at the plan before you run anything: on a large model a few layers
# and steps take gigabytes, and a plan above 20 GB is rejected unless you raise the limit.

# %%
selection = dp.Selection(steps=[0, 25, -1], layers="all")
dp.plan_recording(backbone, scene, selection, noise="forward").plan

# %%
run = dp.record(backbone, scene, selection, folder / "scene.zarr", noise="forward")
print(run.state, "| timestep of each step:", dict(zip(run.steps, run.timesteps.tolist())))

# %% [markdown]
# ## Read it
#
# `read` returns what the attention multiplied: after normalisation and after the rotary position embedding, as float16,
# with dimensions `(head, frame, y, x, channel)`. It is the fastest way to read, and the one to use in loops.

# %%
run = dp.open_recording(folder / "scene.zarr")
query, key = run.read(step=-1, layer=2)
query.shape, query.dtype

# %% [markdown]
# A recording is an ordinary Zarr store, so any tool that reads Zarr can open it without ditprobe. Write
# `data["query"]`, because `data.query` is a method of xarray.

# %%
data = xr.open_zarr(folder / "scene.zarr", chunks=None)
data["query"]

# %% [markdown]
# With named dimensions, attention takes three lines. Take one token as the query and all tokens as keys, and compare with
# ditprobe's own function (both leave the text tokens out here):

# %%
at = data.sel(step=49, branch="cond", layer=2).astype("float32")
logits = xr.dot(at["query"].isel(frame=0, y=3, x=5), at["key"], dim="channel") / np.sqrt(data.sizes["channel"])
weights = np.exp(logits - logits.max(["frame", "y", "x"]))
by_hand = (weights / weights.sum(["frame", "y", "x"])).mean("head")

point = [[float(data["x"][5]), float(data["y"][3])]]  # (x, y) in pixels: the centre of that cell
by_ditprobe = dp.attention_of_points(query, key, point, run.layout)
print("largest difference:", float(np.abs(by_hand.values - by_ditprobe.values[0]).max()))

# %% [markdown]
# ## Which layer finds points again?
#
# For a point in image 0, take the cell of each later frame that its query and key match best (in both directions, averaged
# over heads): that is a track, without training and without a tracker. The truth is known here, so every layer gets a
# score: the percentage of visible positions found to within one cell. `static` is the score of predicting that nothing
# moves; a layer that does not beat it has found nothing.

# %%
points = scene.tracks[0]
one_cell = layout.cell_size[0]


def found_by(layer, step=-1):
    query, key = run.read(step=step, layer=layer)
    return dp.to_image_rate(dp.match_points(query, key, points, run.layout), run.layout, len(scene))


def score(tracks):
    return dp.matching_accuracy(tracks[1:], scene.tracks[1:], scene.visibility[1:], threshold=one_cell)


scores = {layer: score(found_by(layer)) for layer in run.layers}
best = max(scores, key=scores.get)
print("\n".join(f"layer {layer}: {value:5.1f} %" for layer, value in scores.items()))
print(f"static:  {score(np.broadcast_to(points, scene.tracks.shape)):5.1f} %")
print(f"best on this one scene: layer {best}")

# %% [markdown]
# One scene is an anecdote; notebook 02 does this for many, with intervals. Here is what that layer found; press
# play, or move the slider. Discs are predictions, crosses the truth, and lines the errors; a hollow disc is a hidden point.

# %%
dp.plot_tracks(
    scene.images, found_by(best), tracks=scene.tracks, visibility=scene.visibility, title=f"Tracks from layer {best}"
)

# %% [markdown]
# ## What a point attends to
#
# The attention of single points over all frames. The orange square marks the point's own cell in frame 0; the
# dropdown changes the point. The softmax runs over every frame *and* the text, so the text keys are passed too.
#
# Each panel is scaled to its own maximum, so that faint frames remain readable; the number above it says how much of
# the attention falls on the frame. The map is a mean over heads: two spots may be two heads that disagree.

# %%
query, key = run.read(step=-1, layer=best)
text_key = run.read_text(step=-1, layer=best)[1]
moving = np.linalg.norm(scene.tracks[-1] - scene.tracks[0], axis=-1)
seen = scene.visibility.all(axis=0)
chosen = np.argsort(np.where(seen, moving, -1))[-4:][::-1]  # the points that move farthest without being hidden
looks = dp.attention_of_points(query, key, points[chosen], run.layout, text_key=text_key)
dp.plot_attention(looks, images=scene.images, title=f"Where a moving point looks, layer {best}, last step")

# %% [markdown]
# High attention does not prove that the model *uses* what it finds there: values and later layers decide that.
#
# ## What the tokens have in common
#
# The three directions in which the queries (and keys) of a layer vary most, shown as red, green and blue. Cells of
# the same colour look alike to this layer. An object that keeps its colour while it moves is represented by its content; a
# gradient that stays in place while everything moves represents position. Colours of queries and keys cannot be compared
# with each other.

# %%
dp.plot_pca(dp.principal_components(query), dp.principal_components(key), title=f"Layer {best}, last step")

# %% [markdown]
# The same layer at the first step, at which the clip is almost pure noise:

# %%
early_query, early_key = run.read(step=0, layer=best)
dp.plot_pca(dp.principal_components(early_query), dp.principal_components(early_key), title=f"Layer {best}, first step")

# %% [markdown]
# ## Record a prompt while it is sampled
#
# Given a string instead of a clip, `record` generates a video and records while it does. `branch` names the two passes of
# classifier-free guidance, `cond` and `uncond`; by default only `cond` is kept. `save_clip` keeps the video.

# %%
prompt = "a red disc moves right over blue clouds while the camera pans left"
few = dp.Selection(steps=[0, -1], layers=[best])
print(dp.plan_recording(backbone, prompt, few))

# %%
sampled = dp.record(backbone, prompt, few, folder / "prompt.zarr", seed=3, save_clip=folder / "prompt.mp4")
generated = dp.read_clip(folder / "prompt.mp4")
dp.plot_images(generated.images)

# %% [markdown]
# The true tracks of a generated clip are unknown, so there is no score, only the figure:

# %%
query, key = sampled.read(step=-1, layer=best)
tracks = dp.to_image_rate(dp.match_points(query, key, points, sampled.layout), sampled.layout, len(generated))
dp.plot_tracks(generated.images, tracks, title=f"Tracks in the generated clip, layer {best}")

# %% [markdown]
# ## When something is missing
#
# Errors say what was asked for, what exists and what to do. Each is also a builtin error, so you can catch
# `LookupError` without knowing ditprobe's names.

# %%
other = (best + 1) % len(backbone.layers)
for step, layer in ((-1, other), (10, best), (-1, 99)):
    try:
        sampled.read(step=step, layer=layer)
    except LookupError as error:
        print(f"{type(error).__name__}: {error}\n")

# %%
shutil.rmtree(folder)
