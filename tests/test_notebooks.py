"""The notebooks run from top to bottom and show their pictures; building them keeps what it cannot replace."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jupytext
import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from PIL import Image

from store import make_scene, write_clip

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
SHORTER = {  # what only repeats work; `make notebooks` runs them whole, and their outputs are committed
    "01_record_and_look": {"seed=3, save_clip": "seed=3, steps=12, save_clip"},
    "02_layer_sweep": {
        "dp.make_scene(seed) for seed in range(6)}": "dp.make_scene(seed) for seed in range(3)}",
        "steps = [0, 5, 11, 16, 22, 27, 33, 38, 44, 49]": "steps = [0, 22, 49]",
        "dp.Selection(steps=[16, 33, 49]": "dp.Selection(steps=[33, 49]",
        "threshold_cells=(1.0, 0.5, 2.0)": "threshold_cells=(1.0, 0.5)",
    },
    "03_track_points": {"for seed in range(10)}": "for seed in range(2)}"},
    "04_transfer_motion": {
        "steps = 20\n": "steps = 3\n",
        "enumerate(cases)": "enumerate(cases[:1])",
        "for seed in range(8)}": "for seed in range(2)}",
    },
    "05_adapt": {
        "steps=60, learning_rate=1e-2, warm_up=10": "steps=6, learning_rate=3e-3, warm_up=2",
        "steps=20, learning_rate=3e-3, warm_up=5": "steps=4, learning_rate=3e-3, warm_up=2",
        '"steps": 20': '"steps": 4',
    },
    "06_explore": {},
}
FIGURES = {
    "01_record_and_look": 7,
    "02_layer_sweep": 11,
    "03_track_points": 4,
    "04_transfer_motion": 7,
    "05_adapt": 1,
    "06_explore": 2,
}


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """``notebooks/build.py``, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("notebooks_build", NOTEBOOKS / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def kernel(build: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One kernel for all notebooks: its imports take longer than most of them."""
    manager = AsyncKernelManager()
    with tempfile.TemporaryDirectory() as sockets:
        build.own_sockets(manager, Path(sockets))
        run_sync(manager.start_kernel)(env=build.kernel_environment(), cwd=str(tmp_path_factory.mktemp("kernel")))
        yield manager
        run_sync(manager.shutdown_kernel)(now=True)


RESET = """
import os
os.chdir({folder!r})  # first: the folder of the notebook before may be gone
get_ipython().run_line_magic("reset", "-f")
import gc, os, sys, warnings
gc.set_threshold(10_000, 10, 10)  # as in conftest.py
sys.modules.setdefault("rfc3987_syntax", None)  # as in conftest.py
shell = get_ipython()
shell.first_filters = getattr(shell, "first_filters", warnings.filters[:])
warnings.filters[:] = shell.first_filters
os.environ["DITPROBE_DATA"] = {data!r}
get_ipython().run_line_magic("reset", "-f")
get_ipython().execution_count = 0
"""


def reset(kernel: Any, folder: Path, data: Path) -> None:
    """Leave nothing of an earlier notebook but its imports."""
    cell = nbformat.v4.new_code_cell(RESET.format(folder=str(folder), data=str(data)))
    client = NotebookClient(nbformat.v4.new_notebook(cells=[cell]), km=kernel, startup_timeout=240)
    client.execute()
    client.kc.stop_channels()


def shortened(code: str, replacements: dict[str, str]) -> str:
    for old, new in replacements.items():
        assert code.count(old) == 1, f"{old!r} is not there once"
        code = code.replace(old, new)
    return code


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def test_every_notebook_is_tested(build: ModuleType) -> None:
    assert [source.stem for source in build.sources()] == list(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_committed_notebook_is_that_of_its_source(name: str) -> None:
    built = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    source = jupytext.read(NOTEBOOKS / f"{name}.py")
    cells = [[(cell.cell_type, cell.source) for cell in notebook.cells] for notebook in (built, source)]
    assert cells[0] == cells[1], "run `make notebooks`"


@pytest.mark.parametrize("name", FIGURES)
def test_notebook_runs_and_shows_its_pictures(build: ModuleType, kernel: Any, name: str, tmp_path: Path) -> None:
    """A cell that hangs is ended."""
    data, folder = tmp_path / "data", tmp_path / "folder"
    (data / "det").mkdir(parents=True)
    folder.mkdir()
    write_clip(data / "det" / "clip.mp4", make_scene(11, images=21, height=48, width=80))
    source = tmp_path / f"{name}.py"
    source.write_text(shortened((NOTEBOOKS / source.name).read_text(), SHORTER[name]))
    reset(kernel, folder, data)
    notebook = build.execute(source, folder, kernel)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert [output for output in outputs(notebook) if output.output_type == "error"] == []
    assert [output.text for output in outputs(notebook) if output.get("name") == "stderr"] == []
    assert [output for output in outputs(notebook) if WIDGET in output.get("data", ())] == []  # no bars of progress
    shown = [output["data"][build.PLOTLY]["layout"] for output in build.figures(notebook)]
    assert len(shown) >= FIGURES[name]
    assert all("sendChartToCloud" in layout["modebar"]["remove"] for layout in shown)  # none offers to upload it
    assert list(folder.iterdir()) == []
    assert len(nbformat.writes(notebook)) < 1_500_000


def write_source(folder: Path, code: str) -> Path:
    source = folder / "small.py"
    source.write_text(f"# %% [markdown]\n# # Small\n\n# %%\n{code}\n")
    return source


def test_build_writes_the_outputs(build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "find_browser", lambda: None)
    source = write_source(tmp_path, "print(6 * 7)")
    assert build.main([str(source), "--out", str(tmp_path)]) == 0
    notebook = json.loads((tmp_path / "small.ipynb").read_text())
    assert "".join(notebook["cells"][1]["outputs"][0]["text"]) == "42\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.ipynb", "small.py"]


def test_building_twice_gives_the_same_bytes(
    build: ModuleType, kernel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = build.execute
    monkeypatch.setattr(build, "execute", lambda source, folder: execute(source, folder, kernel))
    monkeypatch.setattr(build, "find_browser", lambda: None)
    source = write_source(tmp_path, "import xarray\nxarray.Dataset({'a': ('x', [1, 2])})")
    written = []
    for _ in range(2):
        reset(kernel, tmp_path, tmp_path)  # which numbers its cells from the start
        assert build.main([str(source), "--out", str(tmp_path)]) == 0
        written.append((tmp_path / "small.ipynb").read_bytes())
    assert b"xr-section" in written[0]
    assert written[0] == written[1]


def test_build_that_fails_keeps_the_earlier_notebook(
    build: ModuleType, kernel: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = build.execute
    monkeypatch.setattr(build, "execute", lambda source, folder: execute(source, folder, kernel))
    (tmp_path / "small.ipynb").write_text("earlier")
    source = write_source(tmp_path, "1 / 0")
    assert build.main([str(source), "--out", str(tmp_path)]) == 1
    assert (tmp_path / "small.ipynb").read_text() == "earlier"
    assert "small.py failed; its notebook was not written." in capsys.readouterr().err


def test_pictures_are_drawn_where_a_browser_is_found(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (7, 5)).save(buffer, "png")
    picture = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    drawn: list[Any] = []

    def draw(shown: list[Any], browser: str) -> list[str]:
        drawn.extend(shown)
        return [picture for _ in shown]

    monkeypatch.setattr(build, "_draw", draw)
    figure = {"data": [], "layout": {"height": 230}}
    cell = nbformat.v4.new_code_cell("figure", outputs=[nbformat.v4.new_output("display_data", {build.PLOTLY: figure})])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    build.add_pictures(notebook, "browser")
    assert drawn == [{"data": [], "layout": {"height": 230}, "width": 900, "height": 230}]
    assert outputs(notebook)[0].data["image/png"].startswith("iVBORw0KGgo")
    assert outputs(notebook)[0].metadata == {"image/png": {"width": 900, "height": 230}}
