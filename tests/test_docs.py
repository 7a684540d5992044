"""What the documents, notebooks and docstrings name exists: modules, functions, commands, files, errors."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.errors import DitprobeError, DitprobeWarning

ROOT = Path(__file__).parents[1]
FLOORS = ("store", "probe", "analyses", "generators", "ditprobe")
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("probe/**/*.md"))
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
SOURCES = [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]
TEXTS = [*PAGES, *sorted((ROOT / "notebooks").glob("[0-9]*.py"))]
DOTTED = re.compile(r"(?<![\w./-])((?:store|probe|analyses|generators|ditprobe|dp)(?:\.[A-Za-z_]\w*)+)")
ROLE = re.compile(r":(?:func|class|meth|data|attr|mod|exc|obj):`~?([^`]+)`")
SUFFIXES = {"md", "py", "pyi", "toml", "json", "html", "css", "zarr", "nc", "mp4", "npz", "safetensors", "pkl", "csv"}
ENTRY_POINTS = {"ditprobe.families", "ditprobe.methods", "ditprobe.metrics", "ditprobe.trackers"}
MODULE = re.compile(r"python -m ((?:\w+\.)*\w+)")
FILE = re.compile(r"`((?:store|probe|analyses|generators|ditprobe|benchmarks|tests|docs|notebooks)/[\w./-]+\.\w+)`")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def ids(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


def resolves(name: str) -> bool:
    """Whether a dotted path leads to a module or to something in one."""
    parts = name.split(".")
    parts[0] = {"dp": "ditprobe"}.get(parts[0], parts[0])
    for count in range(len(parts), 0, -1):
        if not is_module(".".join(parts[:count])):
            continue
        thing = importlib.import_module(".".join(parts[:count]))
        for part in parts[count:]:
            if isinstance(thing, type) and any(part in inspect.get_annotations(each) for each in thing.__mro__):
                return True  # a field of a dataclass
            if not hasattr(thing, part):
                return False
            thing = getattr(thing, part)
        return True
    return False


def is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def named(text: str) -> Iterator[str]:
    """Dotted names of our packages in code marks and code blocks of Markdown."""
    for block in re.findall(r"```.*?```|`[^`\n]+`", text, flags=re.DOTALL):
        for name in DOTTED.findall(block):
            if name.rpartition(".")[2] not in SUFFIXES and name not in ENTRY_POINTS:
                yield name


def docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def modules() -> Iterator[str]:
    for floor in FLOORS:
        package = importlib.import_module(floor)
        yield floor
        yield from (found.name for found in pkgutil.walk_packages(package.__path__, f"{floor}."))


@pytest.mark.parametrize("path", TEXTS, ids=ids(TEXTS))
def test_what_a_page_names_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    text = text if path.suffix == ".md" else re.sub(r"^# ?", "", text, flags=re.MULTILINE)
    assert [name for name in named(text) if not resolves(name)] == []
    assert [name for name in MODULE.findall(text) if not is_module(name)] == []
    assert [file for file in FILE.findall(text) if not (ROOT / file).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=ids(PAGES))
def test_links_of_a_page_lead_to_files(path: Path) -> None:
    links = [link for link in LINK.findall(path.read_text(encoding="utf-8")) if ":" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_what_docstrings_name_exists() -> None:
    missing = []
    for path in SOURCES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for text in docstrings(path):
            roles = [role for role in ROLE.findall(text) if role.split(".")[0] in FLOORS]
            names = [*DOTTED.findall(" ".join(re.findall(r"``([^`\n]+)``", text))), *roles]
            missing += [
                f"{module}: {name}"
                for name in names
                if name.rpartition(".")[2] not in SUFFIXES and name not in ENTRY_POINTS and not resolves(name)
            ]
            missing += [f"{module}: python -m {name}" for name in MODULE.findall(text) if not is_module(name)]
    assert missing == []


def subclasses(base: type) -> dict[str, type]:
    """Public subclasses that the packages define, by name."""
    for name in modules():
        if not name.endswith("__main__"):
            importlib.import_module(name)
    found, waiting = {}, [base]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            if kind.__module__.split(".")[0] in FLOORS and not kind.__name__.startswith("_"):
                found[kind.__name__] = kind
                waiting.append(kind)
    return found


def test_every_error_has_its_cause_and_remedy() -> None:
    text = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### (\w+)\n\n(.*?)(?=^##|\Z)", text, flags=re.DOTALL | re.MULTILINE))
    errors = subclasses(DitprobeError)
    assert sorted(sections) == sorted(errors)
    for name, section in sections.items():
        module, base = re.findall(r"\A`([\w.]+)`, an? `(\w+)`", section)[0]
        assert errors[name].__module__ == module, name
        assert base in [each.__name__ for each in errors[name].__mro__[1:]], name
        assert section.index("**Cause:**") < section.index("**Remedy:**"), name


def test_every_warning_has_its_meaning() -> None:
    text = (ROOT / "docs/errors.md").read_text(encoding="utf-8").partition("## Warnings")[2]
    listed = dict(re.findall(r"^\| `(\w+)` \| `([\w.]+)` \|", text, flags=re.MULTILINE))
    assert listed == {name: kind.__module__ for name, kind in subclasses(DitprobeWarning).items()}
