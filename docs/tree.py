"""Write the tree of rooms into ``docs/architecture.md``: each package with the first sentence of its docstring.

Run ``python docs/tree.py`` after adding a package or changing its docstring; a test compares the page with the code.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
FLOORS = ("ditprobe", "generators", "analyses", "probe", "store")
BEGIN, END = "<!-- tree of rooms: written by docs/tree.py -->", "<!-- end of the tree of rooms -->"


def tree() -> str:
    """Return the tree, one line a package, floors from the highest."""
    lines = [line for floor in FLOORS for line in (*_lines(ROOT / floor, 0), "")]
    return "\n".join(lines).rstrip()


def page() -> str:
    """Return the page with the tree as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    block = f"{BEGIN}\n\n```text\n{tree()}\n```\n\n{END}"
    pattern = f"{re.escape(BEGIN)}.*?{re.escape(END)}"
    if not re.search(pattern, text, re.DOTALL):
        raise SystemExit(f"{PAGE} has no place for the tree: put {BEGIN} and {END} where it belongs.")
    return re.sub(pattern, lambda _: block, text, flags=re.DOTALL)


def _lines(package: Path, depth: int) -> list[str]:
    name = f"{'  ' * depth}{package.name}/"
    found = [f"{name:18s} {_first_sentence(package / '__init__.py')}"]
    for each in sorted(package.iterdir()):
        if (each / "__init__.py").is_file():
            found += _lines(each, depth + 1)
    return found


def _first_sentence(module: Path) -> str:
    """Return the first sentence of a docstring, without markup."""
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    sentence = re.split(r"(?<=\.)\s", text.partition("\n\n")[0].replace("\n", " "), maxsplit=1)[0]
    return re.sub(r":\w+:`([^`]*)`", r"\1", sentence).replace("``", "").removesuffix(".")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {tree().count('/')} packages")
