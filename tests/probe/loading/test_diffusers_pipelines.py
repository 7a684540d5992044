"""Every pipeline of diffusers that makes clips is loaded, or refused with a reason of its own."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import diffusers
import pytest

from probe.families import families
from probe.loading.refused import REFUSED
from store.errors import UnsupportedBackboneError

LIST: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[3] / "docs" / "pipelines.py"))
OTHER_VERSION = f"pipelines of diffusers {diffusers.__version__} " not in LIST["PAGE"].read_text(encoding="utf-8")
PIPELINES = LIST["video_pipelines"]()


def test_the_walk_finds_them() -> None:
    found = {pipeline.name: pipeline for pipeline in PIPELINES}
    assert len(found) >= 75
    assert found["WanPipeline"].transformer == "WanTransformer3DModel"
    assert found["StableVideoDiffusionPipeline"].unet == "UNetSpatioTemporalConditionModel"
    own = [
        name for family in families() if family.__module__.startswith("probe.families.") for name in family.pipelines
    ]
    assert set(own) - set(found) == {"StepVideoPipeline"}, "the one that is not in diffusers"


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda pipeline: pipeline.name)
def test_each_is_loaded_or_refused_with_a_reason(pipeline: Any) -> None:
    if any(pipeline.name in family.pipelines for family in families()):
        pipeline.check()
        return
    with pytest.raises(UnsupportedBackboneError) as caught:
        pipeline.check()
    assert "it is of no supported family" not in str(caught.value)
    assert LIST["reason"](pipeline) is not None


@pytest.mark.skipif(OTHER_VERSION, reason="the page lists another version of diffusers")
def test_reasons_are_of_classes_that_exist() -> None:
    assert [name for name in REFUSED if name not in dir(diffusers)] == []


@pytest.mark.skipif(OTHER_VERSION, reason="the page lists another version of diffusers")
def test_the_page_holds_the_list() -> None:
    assert LIST["PAGE"].read_text(encoding="utf-8") == LIST["page"](), "run `python docs/pipelines.py`"
