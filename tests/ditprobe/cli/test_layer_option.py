"""``--layers selection.json`` and ``--layer selection.json`` in every verb that takes layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from typer.testing import Result

from analyses.layers.sweep_files import load_sweep
from analyses.selection.files import save_selection
from analyses.selection.layer_selection import LayerSelection
from ditprobe.cli.layer_option import layer_option, layers_option
from probe import load_backbone
from probe.mini import MiniConfig, new_pipeline, save_mini
from store import Clip, write_clip
from store.errors import InvalidInputError

Run = Callable[..., Result]
SMALL = MiniConfig(images=3, height=16, width=24, layers=3, heads=2, channels=16)
ON_SMALL = ["-b", "./small", "--device", "cpu", "--dry-run"]
PROMPT = "a red disc moves left over blue stripes"


@pytest.fixture
def chosen(run: Run) -> LayerSelection:
    """The selection in ``layers.json``, made on the backbone in ``small``, beside a video ``clip.mp4``."""
    torch.manual_seed(0)
    save_mini(new_pipeline(SMALL), "small")
    write_clip("clip.mp4", Clip(np.random.default_rng(0).integers(0, 255, (3, 16, 24, 3), np.uint8), fps=8))
    found = selection(config_hash=load_backbone("./small", device="cpu").config_hash)
    save_selection(found, "layers.json")
    save_selection(selection(layers=()), "empty.json")
    save_selection(selection(backbone="mini-rope"), "other.json")
    return found


def selection(layers: tuple[int, ...] = (2, 1), backbone: str = "./small", config_hash: str = "") -> LayerSelection:
    place: dict[str, Any] = {"steps": 50, "heads": (0,), "backbone": backbone, "config_hash": config_hash}
    return LayerSelection(layers, xr.Dataset(), max(1, len(layers)), "last", 39, 100, 0, 8, **place)


CALLS = {
    "track": (["track", "clip.mp4", "--grid", 2, "--layer"], "run       layer 2 at step 19 of 25"),
    "amf": (["amf", "clip.mp4", "--layer"], "run       layer 2 at step 19 of 25"),
    "guide": (["guide", PROMPT, "--layers"], "cross-attention guidance 1 (exact) in layers 1, 2 at 25 of 25 steps"),
    "transfer": (["transfer", "clip.mp4", PROMPT, "--layers"], "by layers 1, 2 at 5 of 25 steps"),
    "record": (["record", "--clip", "clip.mp4", "--layers"], "layers    1, 2 (2 of 3)"),
    "sweep": (["sweep", "--clips", "clip.mp4", "--at", "-1", "--layers"], "for 1 call of the model"),
}


@pytest.mark.usefixtures("chosen")
@pytest.mark.parametrize("verb", CALLS)
def test_a_selection_says_which_layers(run: Run, verb: str) -> None:
    words, expected = CALLS[verb]
    assert expected in run(*words, "layers.json", "--steps", 25, *ON_SMALL).stdout


@pytest.mark.usefixtures("chosen")
def test_only_the_layers_of_a_selection_are_swept(run: Run) -> None:
    run("sweep", "--clips", "clip.mp4", "--at", "-1", "--layers", "layers.json", *ON_SMALL[:-1])
    assert load_sweep("sweep.nc")["layer"].values.tolist() == [1, 2]


@pytest.mark.usefixtures("chosen")
@pytest.mark.parametrize("verb", CALLS)
def test_a_selection_of_another_model_or_of_none_is_refused(run: Run, verb: str) -> None:
    words, _ = CALLS[verb]
    other = run(*words, "other.json", "--steps", 25, *ON_SMALL, code=2).stderr
    assert "the layer selection was made on mini-rope" in " ".join(other.split())
    empty = run(*words, "empty.json", "--steps", 25, *ON_SMALL, code=2).stderr
    assert "the layer selection made on ./small is empty" in " ".join(empty.split())


@pytest.mark.usefixtures("chosen")
def test_a_step_and_heads_that_are_given_win(run: Run) -> None:
    words = ["track", "clip.mp4", "--grid", 2, "--layer", "layers.json", "--step", 3, "--steps", 25]
    assert "run       layer 2 at step 3 of 25" in run(*words, *ON_SMALL).stdout


def test_layers_are_numbers_or_a_file(chosen: LayerSelection) -> None:
    assert layers_option("@layers.json") == chosen
    assert layer_option("layers.json") == chosen
    assert layer_option(None) is None
    assert layers_option("0:3") == (0, 1, 2)
    for text in ("3,4", "all"):
        with pytest.raises(InvalidInputError, match=f"^--layer '{text}' is not one layer. Write for example '5', or"):
            layer_option(text)
    with pytest.raises(InvalidInputError, match=r"^--layers 'five': 'five' is neither a number nor a range"):
        layers_option("five")


def test_a_file_that_is_not_a_selection_is_named(run: Run, chosen: LayerSelection) -> None:
    said = run("track", "clip.mp4", "--grid", 2, "--layer", "nowhere.json", *ON_SMALL, code=2).stderr
    assert "nowhere.json holds no layer selection: it does not exist." in " ".join(said.split())
