"""Does DDIM inversion come back? ``python -m benchmarks.correspondence.inversion``: scenes inverted to a step and
denoised from there.

Along the conditional branch without guidance, with the scene's own prompt, as ``noise="inversion"`` does.
"""

from __future__ import annotations

import argparse
import time

import torch
import xarray as xr

from analyses.statistics import bootstrap_mean
from probe import Backbone, load_backbone
from probe.mini import BUNDLED
from probe.run.forward import ForwardPass
from probe.run.run import run_states
from store import make_scene

STEPS = 50
_NAMES = ("s.d. of the state", "s.d. with true noise", "rmse of the way back", "s.d. of what comes back", "of the clip")


@torch.no_grad()
def round_trip(backbone: Backbone, seed: int, to: int) -> list[float]:
    """The :data:`_NAMES` of one scene, inverted to a step and denoised from it."""
    clip = make_scene(seed)
    forward = ForwardPass(backbone, clip.prompt, steps=STEPS, height=clip.height, width=clip.width, images=len(clip))
    latents = backbone.encode(clip)
    state = list(run_states(forward, latents, [to], noise="inversion"))[-1].latents
    back = state
    for step in range(to, STEPS):
        predicted = forward.predict(back, step, branches=("cond",))["cond"].to(back)
        back = forward.schedule.move(back, predicted, step, step + 1)
    gaussian = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)).to(latents)
    expected = forward.schedule.noised(latents, gaussian, to)
    rmse = (back - latents).square().mean().sqrt()
    return [float(each) for each in (state.std(), expected.std(), rmse, back.std(), latents.std())]


def main(arguments: list[str] | None = None) -> None:
    """Print a table for each backbone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["mini", "mini-rope"], choices=list(BUNDLED))
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--first", type=int, default=6000, help="seed of the first scene")
    parser.add_argument("--to", type=int, nargs="+", default=[0, 1, 5, 25], help="steps, 0 = most noise")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    began = time.perf_counter()
    for name in given.backbones:
        backbone = load_backbone(name)
        print(f"\n`{name}`, {given.scenes} scenes from {given.first}, {STEPS} steps, 95 % intervals over scenes.\n")
        print("| to step | " + " | ".join(_NAMES) + " |\n|---:|" + "---|" * len(_NAMES), flush=True)
        for to in given.to:
            found = [round_trip(backbone, seed, to) for seed in range(given.first, given.first + given.scenes)]
            values = xr.DataArray(found, dims=("clip", "name"))
            low, high = bootstrap_mean(values)
            means = values.mean("clip")
            cells = [f"{float(means[i]):.2f} ({float(low[i]):.2f}-{float(high[i]):.2f})" for i in range(len(_NAMES))]
            print(f"| {to} | " + " | ".join(cells) + " |", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
