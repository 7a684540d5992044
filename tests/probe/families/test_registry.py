"""Families of others: registered by hand, or found through the entry points of an installed distribution."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_pipelines as tiny
from diffusers import WanPipeline

from probe import load_backbone, register_family
from probe.families import families, family_of
from probe.families.registry import GROUP, REGISTRY
from probe.families.wan import Wan
from store.errors import InvalidInputError

MODULE = """
from diffusers import WanPipeline
from probe.families.wan import Wan

class OtherPipeline(WanPipeline):
    pass

class OtherVideo(Wan):
    family = "OtherVideo"
    pipelines = ("OtherPipeline",)
    transformers = ()
    fps = 12.0
"""


class StudioPipeline(WanPipeline):
    """A pipeline of a class that no family has."""


class Studio(Wan):
    family = "Studio"
    pipelines = ("StudioPipeline",)
    transformers = ()


@pytest.fixture
def registered() -> Iterator[None]:
    """The registry as it was, whatever is registered meanwhile, and ready to look for entry points again."""
    before, read = dict(REGISTRY._items), REGISTRY._read
    yield
    REGISTRY._items, REGISTRY._read = before, read


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registered: None) -> None:
    (tmp_path / "other_video.py").write_text(MODULE)
    info = tmp_path / "other_video-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-video\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nOtherVideo = other_video:OtherVideo\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "other_video", raising=False)
    REGISTRY._read = False


def test_a_family_of_another_distribution_loads_its_pipelines(distribution: None) -> None:
    assert [family.family for family in families()][-1] == "OtherVideo"
    pipeline = tiny.wan()
    pipeline.__class__ = sys.modules["other_video"].OtherPipeline
    backbone = load_backbone(pipeline)
    assert (type(backbone).__name__, backbone.fps, len(backbone.layers)) == ("OtherVideo", 12.0, 2)


def test_a_registered_family_is_that_of_its_pipelines(registered: None) -> None:
    pipeline = tiny.wan()
    pipeline.__class__ = StudioPipeline
    assert family_of(pipeline) is Wan  # of the class that it derives from
    assert register_family(Studio) is Studio
    assert type(load_backbone(pipeline)) is Studio


def test_an_incomplete_family_is_refused_with_what_is_missing(registered: None) -> None:
    with pytest.raises(InvalidInputError, match=r"a family is a subclass of probe\.Backbone; got 'Wan'"):
        register_family("Wan")  # type: ignore[type-var]

    from probe import Backbone

    class Half(Backbone):
        family = "Half"
        pipelines = transformers = attention_paths = ()

    with pytest.raises(InvalidInputError, match="Half does not state guidance, text_position"):
        register_family(Half)
    Half.guidance, Half.text_position = "calls", None
    with pytest.raises(InvalidInputError, match="Half does not define patch_of, scale_latents, unscale_latents"):
        register_family(Half)

    class Second(Wan):
        pass

    with pytest.raises(InvalidInputError, match="a family named 'Wan' is registered already"):
        register_family(Second)
