"""What reaches the terminal: text, never its markup or its control characters."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ditprobe.cli import console
from ditprobe.cli.console import complain, progress, say, verb
from store.errors import InvalidInputError
from store.text import counted, printable

HOSTILE = "a\x1b]0;owned\x07b\x1b[2Jc\x9bd\u202ee\x00"
SHOWN = r"a\x1b]0;owned\x07b\x1b[2Jc\x9bd\u202ee\x00"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal in the place of both streams."""
    written = io.StringIO()
    for name in ("out", "err"):
        screen = Console(
            file=written, force_terminal=True, highlight=False, soft_wrap=True, width=300, color_system=None
        )
        monkeypatch.setattr(console, name, screen)
    return written


@pytest.mark.parametrize("label", ["[/x]", "[red]clip", "[link=file:///etc]clip", ":skull:", "a [bold]b[/bold]"])
def test_the_progress_bar_shows_brackets_of_a_clips_name_and_does_not_obey_them(
    screen: io.StringIO, label: str
) -> None:
    with progress("sweeping") as bar:
        bar(1, 2, label)
    assert f"sweeping {label}" in screen.getvalue()


def test_control_characters_of_a_clips_name_do_not_reach_the_progress_bar(screen: io.StringIO) -> None:
    with progress("sweeping") as bar:
        bar(1, 2, HOSTILE + "\nerror: made up")
    assert SHOWN + r"\nerror: made up" in screen.getvalue()
    assert "owned\x07" not in screen.getvalue()


def test_control_characters_of_prompts_and_errors_are_shown_as_escapes(screen: io.StringIO) -> None:
    @verb
    def fails() -> None:
        raise InvalidInputError(f"no prompt {HOSTILE}")

    say(f"prompt [red]{HOSTILE}[/red]\nsecond line")
    complain(f"warning: :skull: {HOSTILE}")
    with pytest.raises(BaseException):  # noqa: B017 - typer's Exit, whose base differs by version
        fails()
    assert screen.getvalue().splitlines() == [
        f"prompt [red]{SHOWN}[/red]",
        "second line",
        f"warning: :skull: {SHOWN}",
        f"error: no prompt {SHOWN}",
    ]


def test_a_file_name_that_is_no_text_is_shown(screen: io.StringIO) -> None:
    say(b"clip\xff.mp4".decode("utf-8", "surrogateescape"))
    assert screen.getvalue() == "clip\\udcff.mp4\n"


def test_printable_leaves_other_scripts_alone() -> None:
    for text in ("ein roter Ball, größer", "赤い円", "🎈", "a\tb\nc"):
        assert printable(text) == text
    assert printable("a\tb\n", one_line=True) == r"a\tb\n"
    assert [counted(n, "pass", "passes") for n in (0, 1, 2)] == ["0 passes", "1 pass", "2 passes"]
