"""Long calls show how far they are where somebody waits, and are silent everywhere else."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from store.errors import InvalidInputError
from store.progress import progress_bar, somebody_waits


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    """Make standard error a terminal; called in the test, since pytest takes standard error away in between."""

    def make() -> Terminal:
        found = Terminal()
        monkeypatch.delenv("TQDM_DISABLE", raising=False)
        monkeypatch.setattr("sys.stderr", found)
        return found

    return make


def counted(progress: object) -> None:
    with progress_bar(progress, "counting") as tell:
        for number in range(3):
            if tell is not None:
                tell(number + 1, 3, "sheep")


def test_scripts_and_tests_are_silent(terminal: Callable[[], Terminal]) -> None:
    shown = terminal()
    assert not somebody_waits()
    counted(None)
    assert shown.getvalue() == ""


def test_an_interactive_session_has_a_bar_unless_it_is_told_not_to(
    terminal: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = terminal()
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    counted(False)
    assert shown.getvalue() == ""
    counted(None)
    assert "counting sheep:   0%" in shown.getvalue()
    assert "0/3" in shown.getvalue()
    assert shown.getvalue().endswith("\r")  # nothing stays


def test_an_interactive_session_that_writes_to_a_file_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert not somebody_waits()


def test_a_notebook_has_a_bar_and_the_environment_can_silence_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: kernel))
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    assert somebody_waits()
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert not somebody_waits()


def test_a_callable_is_told_itself() -> None:
    told: list[tuple[object, ...]] = []
    counted(lambda *words: told.append(words))
    assert told == [(1, 3, "sheep"), (2, 3, "sheep"), (3, 3, "sheep")]


def test_a_bar_follows_a_total_that_changes_and_ends_with_an_error(terminal: Callable[[], Terminal]) -> None:
    def fail() -> None:
        with progress_bar(True, "counting") as tell:
            tell(1, None, "a")
            tell(2, 2, "b")
            raise KeyError("lost")

    shown = terminal()
    with pytest.raises(KeyError):
        fail()
    assert "0/2" in shown.getvalue()
    assert shown.getvalue().endswith("\r")


def test_what_is_no_progress_is_refused() -> None:
    with (
        pytest.raises(InvalidInputError, match=r"^on_step must be a callable, True, False or None; got str\."),
        progress_bar("yes", "counting", name="on_step"),
    ):
        pass
