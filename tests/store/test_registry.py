"""Registries: names, refusals, and what another distribution offers through entry points."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from store.errors import InvalidInputError
from store.registry import Registry

PACKAGE = "registry_example"


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution with one entry point that works and one that does not."""
    (tmp_path / f"{PACKAGE}.py").write_text("square = 'four corners'\n")
    info = tmp_path / f"{PACKAGE}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[ditprobe.test_shapes]\nsquare = {PACKAGE}:square\nlost = {PACKAGE}:no\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)


def test_entry_points_are_registered_when_first_read_and_one_that_fails_is_left_out(distribution: None) -> None:
    shapes: Registry[str] = Registry("shape", "ditprobe.test_shapes")
    shapes.register("disc", "round")
    with pytest.warns(UserWarning, match="the shape 'lost' of registry_example .* could not be registered"):
        assert list(shapes) == ["disc", "square"]
    assert shapes["square"] == "four corners"
    assert len(shapes) == 2


def test_a_taken_name_is_refused_unless_replaced() -> None:
    shapes: Registry[str] = Registry("shape", "ditprobe.no_such_group")
    assert shapes.register("disc", "round") == "round"
    shapes.register("disc", "round")
    with pytest.raises(InvalidInputError, match="a shape named 'disc' is registered already"):
        shapes.register("disc", "oval")
    shapes.register("disc", "oval", replace=True)
    assert dict(shapes) == {"disc": "oval"}
    shapes.unregister("disc")
    assert "disc" not in shapes
    assert shapes.get("disc", "flat") == "flat"
    with pytest.raises(InvalidInputError, match=r"unknown shape 'disc'\. Known: none\."):
        shapes.unregister("disc")


def test_what_is_not_of_the_kind_is_refused() -> None:
    def check(name: str, item: object) -> None:
        if not isinstance(item, str):
            raise InvalidInputError(f"{name} must be text.")

    shapes: Registry[object] = Registry("shape", "ditprobe.no_such_group", check=check, remedy="Register it first.")
    with pytest.raises(InvalidInputError, match="square must be text"):
        shapes.register("square", 4)
    with pytest.raises(InvalidInputError, match="the name of a shape must be text that is not empty; got ''"):
        shapes.register("", "x")
    with pytest.raises(InvalidInputError, match=r"unknown shape 'sqare'. Known: none. Register it first.$"):
        shapes["sqare"]
