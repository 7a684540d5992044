"""A packed checkpoint: what it keeps to the bit, what it rounds, and that a training goes on from it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from probe.mini import MiniConfig
from probe.mini.training.pack import main, pack_checkpoint, unpack_checkpoint
from probe.mini.training.schedule import TrainConfig
from probe.mini.training.train import train
from store.errors import InvalidInputError

TINY = MiniConfig(images=2, height=16, width=16, layers=1, heads=2, channels=16)
CONFIG = TrainConfig(steps=6, batch=1, small=0.0, medium=0.0, wide=0.0, warm_up=1)


class Stopped(Exception):
    """Ends a training."""


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three of six steps."""
    folder = tmp_path_factory.mktemp("half")

    def stop(step: int) -> None:
        if step == 3:
            raise Stopped

    with pytest.raises(Stopped):
        train(folder, TINY, CONFIG, device="cpu", workers=0, save_every=3, on_save=stop)
    return folder


def test_a_packed_checkpoint_is_smaller_and_comes_back_within_its_rounding(half: Path, tmp_path: Path) -> None:
    file = pack_checkpoint(half, tmp_path / "packed.pt")
    assert file.stat().st_size < 0.75 * (half / "checkpoint.pt").stat().st_size
    run = unpack_checkpoint(file, tmp_path / "run")
    before, after = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (half, run))
    assert before.keys() == after.keys()
    assert before["settings"] == after["settings"]
    assert after["step"] == 3
    assert (run / "log.csv").read_text() == (half / "log.csv").read_text()
    for part in ("transformer", "text_encoder"):
        for name, value in before[part].items():
            assert torch.equal(after[part][name], value), name
    assert any(not torch.equal(a, b) for a, b in zip(before["average"], after["average"], strict=True))
    for a, b in zip(before["average"], after["average"], strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=1e-4)
    moments = 0
    for a, b in zip(before["optimisers"], after["optimisers"], strict=True):
        assert a["param_groups"] == b["param_groups"]
        for number, state in a["state"].items():
            for name, value in state.items():
                torch.testing.assert_close(b["state"][number][name], value, rtol=2**-8, atol=0)
                moments += value.ndim > 0
    assert moments


def test_a_training_goes_on_from_a_packed_checkpoint_nearly_as_it_would_have(half: Path, tmp_path: Path) -> None:
    run = unpack_checkpoint(pack_checkpoint(half, tmp_path / "packed.pt"), tmp_path / "run")
    straight = tmp_path / "straight"
    shutil.copytree(half, straight)
    for folder in (run, straight):
        train(folder, TINY, CONFIG, device="cpu", workers=0, save_every=3)
    a, b = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (straight, run))
    start = torch.load(half / "checkpoint.pt", weights_only=True)["transformer"]["proj_out.weight"]
    moved = (a["transformer"]["proj_out.weight"] - start).norm()
    apart = (a["transformer"]["proj_out.weight"] - b["transformer"]["proj_out.weight"]).norm()
    assert b["step"] == 6
    assert apart < 0.05 * moved


def test_what_cannot_be_packed_is_refused(half: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidInputError, match=r"^there is no checkpoint .*checkpoint\.pt\. Name the folder"):
        pack_checkpoint(tmp_path, tmp_path / "packed.pt")
    file = pack_checkpoint(half, tmp_path / "packed.pt")
    with pytest.raises(InvalidInputError, match=r" has a checkpoint already\. Unpack into another folder\.$"):
        unpack_checkpoint(file, half)
    file.write_bytes(b"nothing")
    assert main(["--unpack", str(file), str(tmp_path / "run")]) == 2
    assert "is damaged or not a checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
