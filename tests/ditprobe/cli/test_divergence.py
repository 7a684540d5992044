"""The latents of a run that diverged, where they cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ditprobe.cli.divergence import save_latents_on_divergence
from generators.errors import GuidanceDivergedError


def test_a_disk_that_takes_no_latents_does_not_hide_why_the_run_ended(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    diverged = GuidanceDivergedError("the loss is nan.", step=3, latents=torch.ones(1, 2))
    with pytest.raises(GuidanceDivergedError) as caught, save_latents_on_divergence(tmp_path / "file" / "fox.mp4"):
        raise diverged
    assert caught.value is diverged
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
