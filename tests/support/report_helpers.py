"""Shared by the tests of report."""

from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr

from analyses.attention.rows import attention_of_points
from analyses.selection.select import select_layers
from ditprobe.report.report import render_report
from ditprobe.report.sweep import Example
from store.clips.clip import Clip
from store.layout import TokenLayout

DIMS = ("clip", "step", "layer")


EVIL = "<script>alert(1)</script> & </script><b>"


def sweep(count=5, steps=(0, 20, 49), layers=(1, 2, 4, 7), heads=0, truth=True, static=29.5, **attrs):
    rng = np.random.default_rng(0)
    size = (count, len(steps), len(layers))
    best = np.array([0.1, 0.3, 0.9, 0.2])[: len(layers)] * np.linspace(0.5, 1, len(steps))[:, None]
    share = np.clip(best + 0.02 * rng.standard_normal(size), 0, 1)
    percent = {"units": "%", "long_name": "matching accuracy"}
    accuracy = 100 * share if truth else np.full(size, np.nan)
    cross = np.stack([share / 2, share, np.full(size, np.nan)], axis=-1)
    data = {
        "accuracy": (DIMS, accuracy, percent),
        "moving_accuracy": (DIMS, accuracy * 0.9, percent),
        "confidence": ((*DIMS, "target"), cross / 10),
        "attention_score": ((*DIMS, "target"), cross / 2),
        "static_accuracy": ("clip", np.full(count, static if truth else np.nan), percent),
        "blind_accuracy": ("clip", np.full(count, 20.0 if truth else np.nan), percent),
        "points": ("clip", np.full(count, 35)),
        "pairs": ("clip", np.full(count, 100)),
        "moving_pairs": ("clip", np.full(count, 60)),
    }
    if heads:
        data["head_accuracy"] = ((*DIMS, "head"), np.repeat(accuracy[..., None], heads, -1), percent)
    coords = {
        "clip": [f"clip {i}" for i in range(count)],
        "source": ("clip", [f"clip {i}" for i in range(count)]),
        "step": list(steps),
        "timestep": ("step", [999.0 - 20 * step for step in steps]),
        "layer": list(layers),
        "layer_name": ("layer", [f"blocks.{layer}.attn1" for layer in layers]),
        "target": ["self", "cross", "text"],
    }
    return xr.Dataset(
        data, coords, {"backbone": "mini", "seed": 0, "noise": "forward", "steps": 50, "threshold_cells": 1.0} | attrs
    )


def example(**options):
    rng = np.random.default_rng(1)
    layout = TokenLayout(3, 5, 7, 80, 112, 9)
    images = rng.integers(0, 256, (9, 80, 112, 3), dtype=np.uint8)
    tracks = rng.uniform(10, 70, (9, 4, 2))
    clip = Clip(images, 8, tracks=tracks, prompt=EVIL, **options)
    rows = attention_of_points(
        rng.standard_normal((2, 3, 5, 7, 4)), rng.standard_normal((2, 3, 5, 7, 4)), tracks[0], layout
    )
    return Example("<i>first</i>", clip, tracks + np.array([3.0, 4.0]), 4, 49, rows)


class Page(HTMLParser):
    """Tags, ids, links and table cells of a page; the text inside scripts is kept apart."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.ids, self.links, self.open, self.rows, self.text = [], [], [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs[name] for name in ("href", "src") if name in attrs]
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def html():
    found = sweep(heads=2)
    return render_report(found, select_layers(found, 2), examples=[example()], title=f"A title {EVIL}")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)
