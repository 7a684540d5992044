"""Shared by the tests of track."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from analyses.tracking.track import PUBLISHED
from probe import load_backbone, run_clip
from probe.mini import MiniConfig, new_pipeline
from store.clips.clip import Clip
from store.scenes.scene import make_scene
from store.selection import Selection

CELLS, CELL, LENGTH, HEADS, CHANNELS = 10, 4.0, 6, 4, 32


PLAIN = replace(PUBLISHED, geometry="exact", scale="channels")


@pytest.fixture(scope="module")
def backbone():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield load_backbone(new_pipeline(MiniConfig(layers=2)))
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def images():
    return make_scene(7, images=14).images


def queries_in(image, count=9, seed=0, side=40.0):
    points = np.random.default_rng(seed).uniform(0, side, (count, 2))
    return np.column_stack([np.full(count, image), points])


def centres_in(image):
    """Every cell centre as a query."""
    cells = np.stack(np.meshgrid(np.arange(CELLS), np.arange(CELLS)), -1).reshape(-1, 2)
    return np.column_stack([np.full(len(cells), image), CELL * (cells + 0.5)])


def captured(backbone, images, numbers, layer=1, step=-1, heads=None):
    """q and k (head, frame, cell, channel) in float64 of exactly these images, by the plain way to show a clip."""
    captures = []
    selection = Selection([step], [layer], heads=heads)
    run_clip(backbone, Clip(images[list(numbers)], fps=8.0), selection, captures.append, prompt="")
    (capture,) = captures
    return tuple(part.flatten(2, 3).double().numpy() for part in (capture.query, capture.key))


def softmax(values):
    exped = np.exp(values - values.max(-1, keepdims=True))
    return exped / exped.sum(-1, keepdims=True)


def cost_of(query, key, frame, divisor):
    """(cell of frame 0, cell of the frame)."""
    forward = softmax(query[:, 0] @ key[:, frame].swapaxes(-1, -2) / divisor)
    backward = softmax(query[:, frame] @ key[:, 0].swapaxes(-1, -2) / divisor)
    return ((forward + backward.swapaxes(-1, -2)) / 2).mean(0)


def published_chunks(count, length):
    interval = max(1, count // (length - 1))
    missing, chunks = set(range(1, count)), []
    start, end = 1, min((length - 2) * interval + 1, count - 1)
    while missing:
        chunks.append([0, *range(start, end + 1, interval)])
        missing -= set(chunks[-1])
        start += 1
        end = min(start + (length - 2) * interval, count - 1)
    return chunks


def averaged_costs(backbone, images, order, divisor, heads=None):
    """By image the mean cost over the chunks that hold it; ``order`` starts with the image of the query."""
    costs = {}
    for chunk in published_chunks(len(order), LENGTH):
        numbers = [order[place] for place in chunk]
        query, key = captured(backbone, images, numbers, heads=heads)
        for frame, image in enumerate(numbers[1:], start=1):
            costs.setdefault(image, []).append(cost_of(query, key, frame, divisor))
    return {image: np.mean(parts, axis=0) for image, parts in costs.items()}
