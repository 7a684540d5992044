"""Print the counts of the house: ``python docs/counts.py [folder of another checkout]``.

The counts are of the five packages. They are read from the source alone, so that an older commit can be counted too.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp

FLOORS = ("store", "probe", "analyses", "generators", "ditprobe")
CLAUSE = re.compile(r"(what|where|how|which|whether|when|why|who|whose|whoever)\b", re.IGNORECASE)
MOST_PARAMETERS = 8


def trees(root: Path) -> Iterator[tuple[Path, ast.Module]]:
    """Yield each module of the packages, parsed."""
    for floor in FLOORS:
        for path in sorted((root / floor).rglob("*.py")):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def modules_of_the_fullest_folder(root: Path) -> int:
    """Return the largest number of modules in a folder, without its ``__init__``."""
    folders = {path.parent for path, _ in trees(root)}
    return max(sum(path.name != "__init__.py" for path in folder.glob("*.py")) for folder in folders)


def imports(root: Path) -> dict[str, set[str]]:
    """Return the modules that each module imports, also within functions, but not for type checkers alone."""
    sys.path.insert(0, str(root))
    graph = grimp.build_graph(*FLOORS, exclude_type_checking_imports=True, cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def circles(root: Path) -> int:
    """Return the number of groups of modules that import each other."""
    return _groups(imports(root))


def circles_of_packages(root: Path) -> int:
    """Return the number of groups of packages that import each other; a package and those inside it count as none."""
    found: dict[str, set[str]] = {}
    for module, imported in imports(root).items():
        package = _package(root, module)
        others = {_package(root, each) for each in imported}
        apart = {each for each in others if not f"{each}.".startswith(f"{package}.")}
        found.setdefault(package, set()).update(each for each in apart if not f"{package}.".startswith(f"{each}."))
    return _groups(found)


def _package(root: Path, module: str) -> str:
    return module if (root / module.replace(".", "/")).is_dir() else module.rpartition(".")[0]


def _groups(edges: dict[str, set[str]]) -> int:
    """Number of strongly connected components of more than one node."""
    reached: dict[str, set[str]] = {}
    for start in edges:
        seen, waiting = set(), [start]
        while waiting:
            for each in edges.get(waiting.pop(), set()) - seen:
                seen.add(each)
                waiting.append(each)
        reached[start] = seen
    groups = {frozenset(other for other in reached[node] if node in reached.get(other, ())) for node in edges}
    return sum(len(group) > 1 for group in groups)


def functions_of_many_parameters(root: Path) -> tuple[int, int, int]:
    """Return how many functions have more than eight parameters, how many of those are verbs, and how many there are.

    The parameters of a verb are the options of a command.
    """
    found = verbs = every = 0
    for _, tree in trees(root):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                every += 1
                names = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                if len([name for name in names if name not in ("self", "cls")]) > MOST_PARAMETERS:
                    found += 1
                    verbs += any(re.search(r"\bverb\b|\bcommand\b", ast.unparse(each)) for each in node.decorator_list)
    return found, verbs, every


def docstrings_of_a_clause(root: Path) -> tuple[int, int]:
    """Return how many docstrings open with a What, Where or How clause, and how many there are."""
    found = every = 0
    for _, tree in trees(root):
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                every += text is not None
                found += text is not None and CLAUSE.match(text) is not None
    return found, every


def modules_that_replace_files(root: Path) -> int:
    """Return how many modules put a file in another's place, as an atomic write does: a ``replace`` of one path."""

    def replaces(node: ast.AST) -> bool:
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "replace"):
            return False
        of_os = isinstance(node.func.value, ast.Name) and node.func.value.id == "os"
        return of_os or (len(node.args) == 1 and not node.keywords)

    return sum(any(replaces(node) for node in ast.walk(tree)) for _, tree in trees(root))


def main(arguments: list[str]) -> None:
    """Print every count of a checkout, by default of this one."""
    root = Path(arguments[0] if arguments else Path(__file__).parents[1]).resolve()
    many, verbs, functions = functions_of_many_parameters(root)
    clauses, docstrings = docstrings_of_a_clause(root)
    print(f"modules of the fullest folder              {modules_of_the_fullest_folder(root)}")
    print(f"groups of modules that import each other   {circles(root)}")
    print(f"groups of packages that import each other  {circles_of_packages(root)}")
    print(f"functions of more than {MOST_PARAMETERS} parameters        {many} of {functions}, {verbs} of them verbs")
    print(f"docstrings that open with a clause         {clauses} of {docstrings}")
    print(f"modules that replace files                 {modules_that_replace_files(root)}")


if __name__ == "__main__":
    main(sys.argv[1:])
