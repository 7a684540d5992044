"""Ctrl-C at any moment, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# Sends the process a SIGINT when a module is first looked for.
AT_IMPORT = """
import os, signal, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
sys.argv = {words!r}
from ditprobe.cli import main
main()
"""
VERBS = {  # one under each heading of the help; no verb is imported by then
    "sweep": ["--scenes", "1"],
    "select": ["sweep.nc"],
    "transfer": ["clip.mp4", "a dog"],
    "info": ["mini"],
}


def ended(code: str, folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_ctrl_c_while_the_command_is_being_built_is_no_stack_trace(verb: str, tmp_path: Path) -> None:
    words = ["ditprobe", verb, *VERBS[verb]]
    assert ended(AT_IMPORT.format(module="typer", words=words), tmp_path) == (130, "interrupted.\n")


@pytest.mark.parametrize(
    ("words", "module"),
    [
        (["--help"], "ditprobe.cli.verbs.transfer"),
        (["generate", "a red disc moves left over blue stripes"], "probe.loading.load_backbone"),
        (["select", "sweep.nc"], "analyses.selection.select"),
    ],
)
def test_ctrl_c_during_the_imports_of_a_verb_is_no_stack_trace(words: list[str], module: str, tmp_path: Path) -> None:
    code, printed = ended(AT_IMPORT.format(module=module, words=["ditprobe", *words]), tmp_path)
    assert (code, printed.strip()) == (130, "interrupted.")
    assert not list(tmp_path.iterdir())


def test_ctrl_c_within_a_callback_that_python_would_ignore_ends_the_verb(tmp_path: Path) -> None:
    code = """
import time
from ditprobe.cli import interrupts
from ditprobe.cli.console import verb
import typer
interrupts.leave_at_once()

class Closing:
    def __del__(self):
        raise KeyboardInterrupt

app = typer.Typer()

@app.command()
@verb
def run() -> None:
    Closing()
    for _ in range(200):
        time.sleep(0.1)

app()
"""
    code_, printed = ended(code, tmp_path)
    assert (code_, printed.strip()) == (130, "interrupted.")
