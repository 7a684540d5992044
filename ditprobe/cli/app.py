"""The command ``ditprobe``: the verbs of :mod:`ditprobe.cli.verbs` under one name."""

from __future__ import annotations

import pkgutil
from importlib import import_module, metadata
from types import ModuleType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ditprobe.cli import verbs
from ditprobe.cli.console import complain, say

HEADINGS = ("Start here", "What a model knows", "Steer a generation", "Anything")
"""Headings of ``ditprobe --help`` in order; further headings that verbs name follow."""
_START = """
\b
Start here; each takes seconds with the bundled model:
  ditprobe generate "a red disc moves left over blue stripes" --out disc.mp4
  ditprobe track disc.mp4 --grid 5
  ditprobe sweep --scenes 0:4 --report sweep.html
Every verb has --help; most have --dry-run.
"""


_FIRST = ("Arguments", "Options")


# Former names of options, or names that they have elsewhere, and their current name: accepted but not in --help.
_ALIASES = {
    "--scale": ("--strength", "--pixel-scale"),
    "--clip": ("--clips", "--only"),
    "--scene": ("--scenes",),
    "--branch": ("--branches",),
    "--step": ("--at",),
    "--guidance": ("--guidance-scale",),
    "--share": ("--fraction",),
}


class Verb(TyperCommand):
    """A verb that accepts former names of its options, and lists them in --help by heading."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line, with former option names replaced by current ones."""
        known = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [*(_current(word, known) for word in args[:end]), *args[end:]])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options by heading; those without one come first."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            if row is not None:
                is_argument = parameter.param_type_name == "argument"
                panel = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or "Options"
                rows.setdefault(panel, []).append(row)
        for heading in sorted(rows, key=lambda each: _FIRST.index(each) if each in _FIRST else len(_FIRST)):
            with formatter.section(heading):
                formatter.write_dl(rows[heading])


def _current(word: str, known: set[str]) -> str:
    name, equals, value = word.partition("=")
    if name in known:
        return word
    found = next((each for each in _ALIASES.get(name, ()) if each in known), name)
    if found == "--strength":  # elsewhere it enlarges pixels, so explain its meaning here
        complain(
            "warning: --scale of guide is the guidance's strength and is called --strength; --pixel-scale enlarges."
        )
    return f"{found}{equals}{value}"


def verbs_by_heading() -> dict[str, list[ModuleType]]:
    """Return the modules of the verbs by heading."""
    found: dict[str, list[ModuleType]] = {heading: [] for heading in HEADINGS}
    for each in pkgutil.iter_modules(verbs.__path__):
        module = import_module(f"{verbs.__name__}.{each.name}")
        found.setdefault(module.GROUP, []).append(module)
    return found


class Verbs(TyperGroup):
    """The verbs, grouped by purpose."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a heading and the verbs below it for each group."""
        for heading, modules in verbs_by_heading().items():
            rows = []
            for module in modules:
                command = self.get_command(ctx, _name_of(module))
                rows.append((_name_of(module), "" if command is None else command.get_short_help_str(limit=100)))
            with formatter.section(heading):
                formatter.write_dl(rows, col_max=12)


def _name_of(module: Any) -> str:
    return module.__name__.rpartition(".")[2].replace("_", "-")


app = typer.Typer(
    name="ditprobe",
    cls=Verbs,
    help="Probe and analyse the attention of video diffusion transformers.",
    epilog=_START,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for module in (each for group in verbs_by_heading().values() for each in group):
    verb = getattr(module, _name_of(module).replace("-", "_"))
    app.command(_name_of(module), cls=Verb, epilog=module.EXAMPLES)(verb)


def _version(asked: bool) -> None:
    if asked:
        say(f"ditprobe {metadata.version('ditprobe')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the verb."""
