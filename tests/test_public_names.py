"""The public names of each package: one stub for type checkers, completion and the interpreter."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

from store.lazy import attach_stub, stub_groups, stub_homes

ROOT = Path(__file__).parents[1]
FLOORS = ("store", "probe", "analyses", "generators", "ditprobe")  # from the lowest


@pytest.fixture(params=FLOORS)
def package(request: pytest.FixtureRequest) -> ModuleType:
    return import_module(request.param)


def test_every_name_of_the_stub_loads_from_the_module_that_defines_it(package: ModuleType) -> None:
    homes = stub_homes(str(package.__file__))
    assert package.__all__ == sorted(homes)
    for name, home in homes.items():
        value = getattr(package, name)
        assert value is getattr(import_module(home), name)
        if isinstance(value, type | FunctionType):
            assert value.__module__ == home, name
    assert set(homes) <= set(dir(package))


def test_every_name_stands_in_one_group_with_a_heading(package: ModuleType) -> None:
    groups = stub_groups(str(package.__file__))
    names = [name for group in groups.values() for name in group]
    assert "" not in groups
    assert sorted(names) == package.__all__


def test_no_name_is_hidden_by_a_module_of_the_package(package: ModuleType) -> None:
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert not modules & set(package.__all__)


def test_a_package_names_only_itself_and_floors_below(package: ModuleType) -> None:
    below = FLOORS[: FLOORS.index(package.__name__) + 1]
    assert {home.split(".")[0] for home in stub_homes(str(package.__file__)).values()} <= set(below)


def test_every_package_ships_its_types(package: ModuleType) -> None:
    assert (Path(str(package.__file__)).parent / "py.typed").is_file()


def test_an_unknown_name_suggests_the_nearest(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=rf"^{package.__name__} has no 'xyzzy'\. dir\({package.__name__}\) lists"):
        package.xyzzy  # noqa: B018
    known = package.__all__[-1]
    with pytest.raises(AttributeError, match=rf"Did you mean .*'{known}'"):
        getattr(package, known.upper() + "x")


def test_a_stub_with_anything_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "__init__.pyi").write_text("# Clips\nfrom store import Clip\n")
    with pytest.raises(ValueError, match=r"__init__\.pyi:2: a stub holds 'from module import Name as Name' alone"):
        attach_stub("somewhere", str(tmp_path / "__init__.py"))


def test_importing_loads_no_other_library() -> None:
    heavy = ("torch", "diffusers", "plotly", "xarray", "numpy")
    code = f"import sys, {', '.join(FLOORS)}; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_user_script_type_checks_strictly() -> None:
    # Other packages count as untyped here, which makes the check take seconds; ours are read from their source.
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent"]
    command += ["--no-site-packages", "--ignore-missing-imports", f"--cache-dir={ROOT / '.mypy_cache' / 'user_script'}"]
    done = subprocess.run(
        [*command, "tests/typing/user_script.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "MYPYPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
