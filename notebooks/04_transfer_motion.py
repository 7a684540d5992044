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
# # Transfer motion
#
# This notebook uses the results of the analyses in generation. A layer that knows where a point of one image is in the
# others knows how a clip *moves*. The recipe: find that layer, read the motion of a reference in it, and sample another clip
# that has the same motion in that layer (DiTFlow, Pondaven et al., 2025). Then measure whether it worked.
#
# The numbers are those of the small bundled backbone on synthetic scenes, for a handful of clips. The experiment with
# all references, all methods and intervals is in [benchmarks](../docs/benchmarks/transfer.md).

# %%
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from IPython.display import Video

import ditprobe as dp

folder = Path(tempfile.mkdtemp())  # the last cell removes it
backbone = dp.load_backbone("mini")
steps = 20
backbone

# %% [markdown]
# ## Analyse: which layer?
#
# A sweep over eight scenes at a late step, at which layers match best, and the layer selection of notebook 02.

# %%
clips = {f"scene {seed}": dp.make_scene(seed) for seed in range(8)}
sweep = dp.sweep(backbone, clips, dp.Selection(steps=[46], layers="all"), threshold_cells=1.0)
selection = dp.select_layers(sweep, 1)
ranking = [row["layer"] for row in selection.table()]
best, worst = ranking[0], ranking[-1]
accuracy = sweep["accuracy"].mean("clip").sel(step=46)
print(f"best: layer {best}, {float(accuracy.sel(layer=best)):.1f} % of points matched within a cell")
print(f"worst: layer {worst}, {float(accuracy.sel(layer=worst)):.1f} %")
dp.plot_selection(selection)

# %% [markdown]
# ## The motion of a reference, as a layer sees it
#
# The **attention motion flow** gives, for each cell of a frame, where in another frame its query finds the best key. In
# the best layer it follows the object; in the worst it does not. No optical flow and no tracker is involved.

# %%
reference = dp.make_scene(21, prompt="a red ring moves left over blue stripes")
dp.plot_images(reference)

# %%
flow = dp.reference_flow(backbone, reference, layer=best)
dp.plot_flow_arrows(flow, reference.images, title=f"Layer {best}: from image 0 to the last one")

# %%
in_worst = dp.reference_flow(backbone, reference, layer=worst)
dp.plot_flow_arrows(in_worst, reference.images, title=f"Layer {worst}: the same")

# %% [markdown]
# ## Transfer
#
# The prompt names another object and another background and does not mention motion. At each of the first two fifths of
# the steps, the latents are optimised in five iterations so that their flow in that layer becomes more like the
# reference's. (The published fraction, one fifth, is the default; this small backbone needs more.) The layer is the one
# found above.

# %%
prompt = "a green star over white dots"
plain = dp.sample(backbone, prompt, seed=0, steps=steps)
transfer = dp.MotionTransfer(backbone, reference, prompt, method=dp.DiTFlow(layers=(best,), fraction=0.4), steps=steps)
moved = transfer.run()
dp.plot_images({"reference": reference, "prompt alone": plain, "with its motion": moved.clip}, title=prompt)

# %% [markdown]
# From top to bottom: the reference; what the backbone generates from the prompt alone; the same noise with the motion of
# the reference. The loss before the first and before the last iteration of each guided step:

# %%
pd.DataFrame({"first": {k: v[0] for k, v in moved.losses.items()}, "last": {k: v[-1] for k, v in moved.losses.items()}})

# %% [markdown]
# Reference, result and their flows side by side. Press play, or move the slider. Cells are coloured by displacement since
# image 0.

# %%
dp.plot_transfer(
    reference, moved.clip, flow, dp.reference_flow(backbone, moved.clip, layer=best), title="Reference and result"
)

# %%
dp.write_video(folder / "moved.mp4", np.stack(moved.clip.images).repeat(6, 1).repeat(6, 2), moved.clip.fps)
Video(folder / "moved.mp4", embed=True, html_attributes="controls loop muted")

# %% [markdown]
# ## Measure
#
# One clip is an anecdote. Here are four references, each with a new prompt, in three variants: the plain backbone, guided by
# the best layer, and guided by the worst layer.
#
# * **motion error**: distance of the object's path from the reference's, relative to the reference's motion; an object
#   at rest scores 1, one that moves in the opposite direction 2;
# * **motion fidelity** (Yatim et al., 2024): how well the displacements of tracked points match directions in the other
#   clip; most of an image is background, so clips with a different motion still score well above 0;
# * whether object and background still have the colours of the prompt.

# %%
cases = [
    ("a red ring moves left over blue stripes", "a green star over white dots", "green"),
    ("a yellow disc moves up over purple checks", "a cyan square over orange waves", "cyan"),
    ("a white cross moves down right over green clouds", "a pink ring over grey stripes", "pink"),
    ("a blue triangle moves right over pink dots", "an orange disc over white checks", "orange"),
]
methods = {
    "plain backbone": dp.PlainBackbone(),
    f"DiTFlow, layer {best}": dp.DiTFlow(layers=(best,), fraction=0.4),
    f"DiTFlow, layer {worst}": dp.DiTFlow(layers=(worst,), fraction=0.4),
}


def measure(clip, source, new, colour):
    """Motion error, motion fidelity, and the share of colours that are right."""
    path, target = dp.object_motion(clip, colour=colour), dp.object_motion(source)
    seen = dp.prompt_agreement(clip.images, new.replace(" over", " moves left over"))  # its grammar needs a direction
    right = np.mean([seen.objects[0].colour_right, seen.background_right])
    fidelity = dp.clip_motion_fidelity(clip, source, dp.FlowTracker())
    return [dp.motion_error(path, target).relative, fidelity, 100 * right]


values = []
for number, (described, new, colour) in enumerate(cases):
    source = dp.make_scene(21 + number, prompt=described)
    made = [dp.transfer_motion(backbone, source, new, method=method, steps=steps) for method in methods.values()]
    values.append([measure(clip, source, new, colour) for clip in made])
metrics = ["motion error", "motion fidelity", "colours right, %"]
found = xr.DataArray(values, {"method": list(methods), "metric": metrics}, ("clip", "method", "metric"))
found.mean("clip").round(2).to_pandas()

# %% [markdown]
# Four clips are too few for an interval; look at each of them instead:

# %%
found.sel(metric="motion error", drop=True).round(2).to_pandas()

# %% [markdown]
# Guidance by the worst layer can move the object too, because gradients pass through all layers below it. With forty
# references (`python -m benchmarks.transfer`) its cost becomes clear: the layer that the selection chose brings the
# object closest to the reference's path *and* keeps the colours of the prompt, and no other layer does both.

# %% [markdown]
# ## Reusable motion: optimised positions
#
# Instead of the latents, the *position table* of the model can be optimised. It contains nothing about what the images
# show, so it represents motion alone: found for one prompt, saved, and injected for another without further optimisation.

# %%
method = dp.DiTFlow(optimise="positions", layers=(best,), fraction=0.4)
embedding = dp.MotionTransfer(backbone, reference, prompt, method=method, steps=steps).optimise()
dp.save_embedding(embedding, folder / "left.safetensors")
kept = dp.load_embedding(folder / "left.safetensors")
other = "a yellow square over purple clouds"
injected = dp.sample(backbone, other, dp.InjectMotion(kept), seed=0, steps=steps)
without = dp.sample(backbone, other, seed=0, steps=steps)
for label, clip in (("plain", without), ("injected", injected)):
    error = dp.motion_error(dp.object_motion(clip, colour="yellow"), reference).relative
    print(f"{label:9s} motion error {error:.2f}")
kept

# %% [markdown]
# ## Guidance by the same layer
#
# Cross-attention guidance (CAG; DiffTrack, Nam et al., 2025) needs no reference. It compares the prediction with one
# whose frames cannot attend to one another in the chosen layers, and steers away from that one.

# %%
motion_prompt = "a red disc moves left over blue stripes"
guided = dp.sample(backbone, motion_prompt, dp.CrossAttentionGuidance(layers=(best,), scale=1.0), seed=0, steps=steps)
unguided = dp.sample(backbone, motion_prompt, seed=0, steps=steps)
dp.plot_images({"unguided": unguided, "guided": guided}, title=motion_prompt)

# %% [markdown]
# ## Your model
#
# The same on CogVideoX (it needs a GPU and the weights, and is not run here). Its layers are known from the papers; for
# a model that has not been swept yet, the first part of this notebook finds them.
#
# ```python
# backbone = dp.load_backbone("THUDM/CogVideoX-5b", device="cuda", dtype="bfloat16")
# reference = dp.read_clip("clip.mp4")
# clip = dp.transfer_motion(backbone, reference, "a fox runs", gradient_checkpointing=True)
# ```
#
# ```console
# ditprobe transfer clip.mp4 "a fox runs" -b THUDM/CogVideoX-5b
# ditprobe guide "a fox runs" -b THUDM/CogVideoX-5b
# ```

# %%
shutil.rmtree(folder)
