"""Shared by the tests of sweep."""

from collections.abc import Iterator

import pytest
import torch

from probe import Backbone, load_backbone
from probe.mini import MiniConfig, new_pipeline
from store.selection import Selection

SELECTION = Selection(steps=[0, 30, -1], layers="all")


PROMPT = "a red disc moves right over blue stripes"


@pytest.fixture(scope="module")
def mini() -> Iterator[Backbone]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield load_backbone(new_pipeline(MiniConfig(layers=2)))
    torch.set_num_threads(threads)
