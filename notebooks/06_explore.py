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
# # Explore a recording
#
# Click a point in any image of a clip and see what it attends to in every frame, by head and by word, and where the layer
# finds it again. Then compute the same numbers in Python.
#
# Everything runs on the bundled backbone, in under a minute, without a GPU or a network.

# %%
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import ditprobe as dp

folder = Path(tempfile.mkdtemp())  # recordings of this notebook; the last cell removes them

# %% [markdown]
# ## Record, and sweep
#
# A recording holds queries and keys of the chosen steps and layers. With `values=True` it also holds what each head carries.
# The sweep measures every layer on a few other scenes: its map is what we navigate by.

# %%
backbone = dp.load_backbone("mini")
scene = dp.make_scene(9)
chosen = dp.Selection(steps=[0, 28, -1], layers="all")
run = dp.record(backbone, scene, chosen, folder / "scene.zarr", noise="forward", values=True)
sweep = dp.sweep(
    backbone, {f"scene {n}": dp.make_scene(n) for n in range(4)}, chosen, threshold_cells=1, noise="forward"
)
scene

# %% [markdown]
# ## The explorer
#
# `dp.explore` returns a widget. In JupyterLab or VS Code, put `explorer` on the last line of a cell to use it live. `still`
# shows a view that stays in the saved notebook: it holds a grid of points at this layer and step, and every layer and step
# for the point that it opens with.
#
# * Click or drag in any picture to choose the point. The white ring is the point, the blue disc its match, the green cross
#   the true position.
# * Click a head to see it alone, or a word to see what that text token looks at and what looks at it.
# * Click the map, or use `[` `]` and `,` `.`, to change the layer and the step. `?` lists all keys.

# %%
explorer = dp.explore(run, clip=scene, sweep=sweep)
explorer.still(step=49, layer=4, image=0, x=18.0, y=18.0, height=900)

# %% [markdown]
# Opacity is the share of the point's attention, so the picture stays recognisable and nothing is scaled behind your back:
# the legend names the largest share. The line below the image compares the match with the truth and with "nothing moves".
#
# ## The same in Python
#
# The button *Python* gives the code of a view. Points may be in any frame, and heads can be kept apart:

# %%
step, layer, frame, point = -1, 4, 2, [[18.0, 14.0]]
query, key = run.read(step=step, layer=layer)
text_query, text_key = run.read_text(step=step, layer=layer)
heads = dp.attention_of_points(query, key, point, run.layout, frame=frame, text_key=text_key, by_head=True)
shares = 100 * heads.astype(float).sum(["y", "x"]).isel(point=0).to_pandas()
shares.columns = [f"frame {number}" for number in range(run.layout.frames)]
shares["text"] = 100 * heads["text"].values[:, 0].astype(float)
shares.round(1).rename_axis("head")

# %% [markdown]
# Each row adds up to 100 %: a head spreads one softmax over all frames and the text.

# %%
dp.plot_attention(heads.mean("head", keep_attrs=True), images=scene.images, title="From frame 2, mean over heads")

# %% [markdown]
# ## Words
#
# `attention_to_text` says how much of the point's attention each text token gets, `attention_of_text` where a token looks,
# and `map_attention_to_text` which cells look at it. A recording of this backbone keeps the names of its tokens.

# %%
names = run.provenance.extra["text_tokens"]["cond"]
to_text = dp.attention_to_text(query, key, text_key, point, run.layout, frame=frame)
table = pd.DataFrame({"token": names, "share, %": (100 * to_text.values[0]).round(3)})
table[table["token"] != "<pad>"].nlargest(5, "share, %")

# %%
word = "yellow"
looks = dp.attention_of_text(text_query, key, text_key, run.layout)[[names.index(word)]]
dp.plot_attention(looks, images=scene.images, title=f"Where the text token “{word}” looks, layer {layer}, last step")

# %%
looked_up = dp.map_attention_to_text(query, key, text_key, run.layout, tokens=[names.index(word)])
dp.plot_attention(looked_up, images=scene.images, title=f"What looks at “{word}”, layer {layer}, last step")

# %% [markdown]
# High attention does not prove that the model *uses* what it finds there: the values decide what is carried.
#
# ## Does every head find the point?

# %%
track = int(np.linalg.norm(scene.tracks[0] - point, axis=-1).argmin())  # the nearest one whose truth is known
by_head = dp.match_points_by_head(query, key, scene.tracks[0, [track]], run.layout)[:, :, 0]
off = np.linalg.norm(by_head - scene.tracks[:, track], axis=-1) / run.layout.cell_size[0]
pd.DataFrame(off.round(2), columns=[f"frame {n}" for n in range(6)]).rename_axis("cells off, by head")

# %% [markdown]
# ## Two recordings
#
# `dp.explore(run, beside=other)` shows another noise seed side by side with the first, and their difference. Prompts,
# or a model before and after a change, can be compared in the same way. Here the result is written to a file, which
# opens without a network.

# %%
other = dp.record(backbone, scene, dp.Selection(steps=[-1], layers=[4]), folder / "other.zarr", noise="forward", seed=1)
both = dp.explore(run, clip=scene, beside=other, beside_clip=scene)
page = both.save_html(folder / "seeds.html", step=49, layer=4)
print(f"{page.name}: {page.stat().st_size / 1e6:.1f} MB")

# %% [markdown]
# From the shell, `ditprobe explore scene.zarr --beside other.zarr` serves the same page on this machine alone.

# %%
explorer.close(), both.close()
shutil.rmtree(folder)
