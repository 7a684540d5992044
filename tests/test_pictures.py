"""The pictures of the README: true colours, a size that loads fast, and a script that makes them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

IMAGES = Path(__file__).parents[1] / "docs" / "images"
NAMES = ("explorer", "report", "generated", "heads", "tracked", "transferred", "adapted")


@pytest.fixture(scope="module")
def make() -> ModuleType:
    """``docs/images/make.py``, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("images_make", IMAGES / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_pictures_of_the_readme_have_true_colours_and_two_pixels_for_one(name: str) -> None:
    path = IMAGES / f"{name}.png"
    with Image.open(path) as picture:
        assert picture.mode == "RGB"  # a palette merges the ends of a colour bar
        assert picture.width >= 1900
    assert path.stat().st_size < 600_000


def test_the_script_makes_every_picture_of_the_readme(make: ModuleType) -> None:
    readme = (IMAGES.parents[1] / "README.md").read_text()
    assert sorted(make.PICTURES) == sorted(NAMES)
    assert all(f"docs/images/{name}.png" in readme for name in NAMES)


def test_images_of_a_sheet_have_gaps_and_keep_their_pixels(make: ModuleType) -> None:
    images = np.random.default_rng(0).integers(0, 200, (3, 16, 24, 3), dtype=np.uint8)
    sheet = np.asarray(make.sheet({"first": images, "second": 255 - images}, ["a", "b", "c"]))
    top, gap = make.LABEL, make.GAP
    np.testing.assert_array_equal(sheet[top : top + 16, 24 + gap : 48 + gap], images[1])
    assert (sheet[top : top + 16, 24 : 24 + gap] == 255).all()
    assert (sheet[top + 16 : top + 16 + gap] == 255).all()
    assert (sheet[-make.LABEL :] < 255).any()


def test_a_written_picture_has_the_pixels_that_were_drawn(make: ModuleType, tmp_path: Path) -> None:
    drawn = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    assert make.write(tmp_path / "a.png", drawn) == (tmp_path / "a.png").stat().st_size
    with Image.open(tmp_path / "a.png") as found:
        np.testing.assert_array_equal(np.asarray(found), np.asarray(drawn))
    with pytest.raises(RuntimeError, match="bytes, more than 600,000"):
        make.write(
            tmp_path / "b.png", Image.fromarray(np.random.default_rng(0).integers(0, 256, (480, 480, 3), np.uint8))
        )
    assert not (tmp_path / "b.png").exists()


def test_a_missing_browser_is_told(make: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(RuntimeError, match=r"^report\.png needs Chromium or Chrome\. Install one"):
        make.report(None)
