"""What the README tells people to type works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import plotly.graph_objects as go
import pytest
from typer.testing import CliRunner

from ditprobe.cli import app

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line.split("  #")[0] for line in re.findall(r"^ditprobe .*$", README, flags=re.MULTILINE)]


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[go.Figure] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(go.Figure, "show", lambda figure: shown.append(figure))
    names: dict[str, object] = {}
    bundled = [block for block in BLOCKS if "from_pretrained" not in block]
    for block in bundled:
        exec(block, names)
    assert len(bundled) == 2
    assert len(shown) == 1
    assert names["tracks"].shape == (6, 100, 2)


def test_the_commands_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = 0
    for command in COMMANDS:
        if "CogVideoX" in command or "$DITPROBE_DATA" in command:
            continue  # no network; real clips have their own tests
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, f"{command}: {result.output}"
        ran += 1
    assert ran == 7
    assert (tmp_path / "again.html").exists()
