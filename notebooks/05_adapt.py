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
# # Learn a motion once, use it for any prompt
#
# The methods of notebook 04 look at the reference while they generate. Here the motion is **learnt**: small trainable parts
# are attached to the frozen model, trained on the one clip, and kept in a file. Two methods are shown:
#
# * **DeT** (Shi et al., ICCV 2025): a convolution over time next to every attention, with a loss along the tracks of points.
# * **Follow-Your-Motion** (Ma et al., 2025): a LoRA of the spatial heads learns how single images look; then one of the
#   temporal heads learns how they move, from a few frames at their places in time.
#
# The trainings are short here, so that everything runs on a laptop in two minutes; the benchmarks train for longer.

# %%
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import ditprobe as dp
from generators import AttachAdapter

backbone = dp.load_backbone("mini")
reference = dp.make_scene(4000, prompt="a red disc moves left over blue stripes")
prompt = "a green star over white dots"
reference

# %% [markdown]
# ## Adapt
#
# The caption leaves the motion open, because the adapter does not learn what the text already explains. `fit` returns a
# method for `transfer_motion`; its adapter changes nothing until it is attached, and leaves the model as it was.

# %%
caption = "a red disc over blue stripes"
training = dp.Training(steps=60, learning_rate=1e-2, warm_up=10)
fitted = dp.DeT(width=64, training=training, keep=0.5).fit(backbone, reference, prompt=caption)
fitted.adapter

# %% [markdown]
# The loss of a step depends on the noise level that was drawn for it, so 60 steps do not show a trend; the clips show
# what was learnt.

# %% [markdown]
# ## Look
#
# The same prompt and noise, without and with what was learnt. The new clip should move as the reference does, in the
# colours of the prompt.

# %%
settings = {"seed": 4000, "steps": 20, "guidance_scale": 4.0}
plain = backbone.generate(prompt, **settings)
adapted = dp.sample(backbone, prompt, AttachAdapter(fitted.adapter, keep=0.5), **settings)
rows = [np.concatenate(list(clip.images), axis=1) for clip in (reference, plain, adapted)]
Image.fromarray(np.concatenate(rows).repeat(4, 0).repeat(4, 1))

# %% [markdown]
# From top to bottom: the reference, the plain clip, the adapted one. Reference and adapted clip with the flow that the last
# layer sees in them:

# %%
flows = [dp.reference_flow(backbone, clip, layer=5) for clip in (reference, adapted)]
dp.plot_transfer(reference, adapted, *flows, title="Reference and adapted clip")

# %% [markdown]
# ## Compare
#
# *Motion error* is the distance of the object's path from the reference's, divided by how far the reference's object
# moves: 0 is the same path, 1 is as wrong as an object at rest. *Colour leak* is how far the clip is tinted towards the
# reference's colours, in percent; compare it with the plain clip, since textures vary in tint anyway.


# %%
def compare(name, clip):
    theirs, ours = (dp.object_motion(each, colour=colour) for each, colour in ((reference, "red"), (clip, "green")))
    leak = dp.colour_leak(clip.images, prompt, caption)
    error = dp.motion_error(ours, theirs).relative
    print(f"{name:10} motion error {error:5.2f}   leak of the object {100 * leak.object:4.0f} %", end="")
    print(f", of the background {100 * leak.background:4.0f} %")


compare("plain", plain)
compare("DeT", adapted)

# %% [markdown]
# ## Keep it
#
# The file records the backbone, the layers and the reference it was made for, and is rejected on another model.

# %%
folder = Path(tempfile.mkdtemp())  # choose a folder of your own
path = dp.save_adapter(fitted.adapter, folder / "left.safetensors")
again = dp.load_adapter(path, backbone)
print(path.name, f"{path.stat().st_size / 1e6:.1f} MB,", again.kind, "in", len(again.layers), "layers")
shutil.rmtree(folder)

# %% [markdown]
# ## Follow-Your-Motion
#
# First, the heads are classified on the reference. The B matrices of each group have rows only for its own heads, so
# neither LoRA can change what the other group's heads compute from their input.

# %%
few = dp.Training(steps=20, learning_rate=3e-3, warm_up=5, tracking_weight=0.0)
method = dp.FollowYourMotion(rank=16, sampled=3, training=few, spatial_training=few)
print(method.describe(backbone, steps=20))
by_heads = method.fit(backbone, reference, prompt=caption)
by_heads.adapter

# %%
compare("by heads", dp.sample(backbone, prompt, AttachAdapter(by_heads.adapter), **settings))

# %% [markdown]
# So few steps show that it runs, not how good a method is. On the command line,
# `ditprobe adapt reference.mp4 --method follow-your-motion --out motion.safetensors` and
# `ditprobe transfer --adapter motion.safetensors PROMPT` do the same; `--dry-run` first estimates time and memory for
# your own model.
