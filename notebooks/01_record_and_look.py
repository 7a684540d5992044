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
# how well they fit decides which tokens exchange information. This notebook records queries and keys,
# opens the recording, and looks at them: where a point attends to, what the tokens of a layer have in common,
# and whether attention finds a moving point again.
#
# Everything runs on a small backbone that comes with ditprobe, in seconds and without a GPU or a network.
# It is built from the classes of CogVideoX, so the same lines work on the real one.
#
# In JupyterLab and VS Code the pictures slide, zoom and tell their values under the mouse; on GitHub they are still.

# %%
import shutil
import tempfile
from pathlib import Path

import numpy as np
import plotly.express as px
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
# The model was trained on other scenes of this kind, all from seeds of 10,000,000 and above.

# %%
scene = dp.make_scene(9)
scene

# %%
def strip(images):
    """The images of a clip side by side."""
    figure = px.imshow(images, facet_col=0, facet_col_spacing=0.01, labels={"facet_col": "image"})
    figure.for_each_annotation(lambda note: note.update(text=note.text.replace("=", " ")))
    figure.update_xaxes(visible=False).update_yaxes(visible=False)
    # plotly's own pictures have a button that uploads them; those of ditprobe have not
    return figure.update_layout(height=220, margin={"l": 6, "r": 6, "t": 30, "b": 6}, modebar_remove=["sendChartToCloud"])


print(scene.prompt)
strip(scene.images)

# %% [markdown]
# The model does not see pixels. It sees tokens on a grid of `frame`, `y`, `x`, and the **layout** says what each token
# stands for. A *frame* is a latent frame; an *image* is one picture of the video. Here each frame covers one image.
# In the large models the first frame covers image 0 alone and every later one covers four images (or whatever the
# video autoencoder compresses), so never use one number in place of the other: ask the layout.

# %%
layout = backbone.layout(scene.height, scene.width, len(scene), scene.prompt)
print(f"{layout.frames} frames of {layout.height} x {layout.width} cells of {layout.cell_size} pixels (dy, dx)")
print("images of each frame:", [list(span) for span in layout.spans])
print("text tokens in the same attention:", layout.text_tokens)

# %% [markdown]
# ## Record a clip
#
# A `Selection` says which steps and layers to keep. A **step** counts the denoising, 0 = most noise, -1 = the last;
# the **timestep** is the scheduler's own value at that step, which is stored beside it.
#
# A clip has no denoising of its own, so it is shown to the model at each selected step. With `noise="forward"` it gets
# the noise that the model expects there. Look at the plan before you run anything: on a large model a few layers and
# steps are gigabytes, and a plan above 20 GB is refused unless you raise the limit.

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
# with dims `(head, frame, y, x, channel)`. It is the fast way in, and the one to use in loops.

# %%
run = dp.open_recording(folder / "scene.zarr")
query, key = run.read(step=-1, layer=2)
query.shape, query.dtype

# %% [markdown]
# A recording is an ordinary Zarr store, so any tool that reads Zarr reads it, with no ditprobe installed. Write
# `data["query"]`, not `data.query`: the latter is a method of xarray.

# %%
data = xr.open_zarr(folder / "scene.zarr", chunks=None)
data["query"]

# %% [markdown]
# With named dims the attention is three lines. Take one token as the query, all tokens as keys, and compare with
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
# For a point in image 0, take the cell of each later frame that its query and key fit best (both ways, averaged over
# heads): that is a track, with no training and no tracker. The truth is known here, so every layer gets a score: the
# share of visible positions found within one cell. `static` is the score of saying that nothing moves: what a layer
# has to beat before one can speak of finding anything.

# %%
points = scene.tracks[0]
one_cell = layout.cell_size[0]


def found_by(layer, step=-1):
    query, key = run.read(step=step, layer=layer)
    return dp.to_images(dp.match_points(query, key, points, run.layout), run.layout, len(scene))


def score(tracks):
    return dp.matching_accuracy(tracks[1:], scene.tracks[1:], scene.visibility[1:], threshold=one_cell)


scores = {layer: score(found_by(layer)) for layer in run.layers}
best = max(scores, key=scores.get)
print("\n".join(f"layer {layer}: {value:5.1f} %" for layer, value in scores.items()))
print(f"static:  {score(np.broadcast_to(points, scene.tracks.shape)):5.1f} %")
print(f"best on this one scene: layer {best}")

# %% [markdown]
# One scene is an anecdote. Notebook 02 does this over many, with intervals. Here is what that layer found; move the
# slider. Discs are predictions, crosses the truth, lines the error between them; a hollow disc is a point that is
# hidden.

# %%
dp.plot_tracks(
    scene.images, found_by(best), tracks=scene.tracks, visibility=scene.visibility, title=f"Tracks from layer {best}"
)

# %% [markdown]
# ## Where a point looks
#
# The attention of single points over all frames; the orange square marks the point's own cell in frame 0, and the
# dropdown changes the point. The softmax runs over every frame *and* the text, so we pass the text keys.
#
# Each panel is scaled to its own largest value so that faint frames stay readable; the number above it says how much of
# the attention the frame holds. And it is a mean over heads: a map with two spots may be two heads that disagree.

# %%
query, key = run.read(step=-1, layer=best)
text_key = run.read_text(step=-1, layer=best)[1]
moving = np.linalg.norm(scene.tracks[-1] - scene.tracks[0], axis=-1)
seen = scene.visibility.all(axis=0)
chosen = np.argsort(np.where(seen, moving, -1))[-4:][::-1]  # the points that move farthest without being hidden
looks = dp.attention_of_points(query, key, points[chosen], run.layout, text_key=text_key)
dp.plot_attention(looks, images=scene.images, title=f"Where a moving point looks, layer {best}, last step")

# %% [markdown]
# High attention is no proof that the model *uses* what it finds there: values and later layers decide that.
#
# ## What the tokens have in common
#
# The three directions in which the queries (and keys) of a layer differ most, shown as red, green and blue. Cells of
# one colour are alike to this layer. An object that keeps its colour while it moves is told apart by content; a
# gradient that stays in place while everything moves is position. Colours of query and key cannot be compared with each
# other.

# %%
dp.plot_pca(dp.principal_components(query), dp.principal_components(key), title=f"Layer {best}, last step")

# %% [markdown]
# The same layer at the first step, where the clip is almost pure noise:

# %%
early_query, early_key = run.read(step=0, layer=best)
dp.plot_pca(dp.principal_components(early_query), dp.principal_components(early_key), title=f"Layer {best}, first step")

# %% [markdown]
# ## Record a prompt while it is sampled
#
# A string instead of a clip is generated, and recorded on the way. `branch` names the two passes of classifier-free
# guidance, `cond` and `uncond`; the default keeps `cond` only. `save_clip` keeps the video.

# %%
prompt = "a red disc moves right over blue clouds while the camera pans left"
few = dp.Selection(steps=[0, -1], layers=[best])
print(dp.plan_recording(backbone, prompt, few))

# %%
sampled = dp.record(backbone, prompt, few, folder / "prompt.zarr", seed=3, save_clip=folder / "prompt.mp4")
generated = dp.read_clip(folder / "prompt.mp4")
strip(generated.images)

# %% [markdown]
# Nobody knows the true tracks of a generated clip, so there is no score, only the picture:

# %%
query, key = sampled.read(step=-1, layer=best)
tracks = dp.to_images(dp.match_points(query, key, points, sampled.layout), sampled.layout, len(generated))
dp.plot_tracks(generated.images, tracks, title=f"Tracks in the generated clip, layer {best}")

# %% [markdown]
# ## When something is not there
#
# Errors say what was asked, what exists and what to do. Each is also an error that Python already has, so you can catch
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
