"""Write the list of diffusers' video pipelines into ``docs/families.md``: the family of each, or why it is refused.

Run ``python docs/pipelines.py`` after adding a family, or with another diffusers; a test compares page and code.
"""

from __future__ import annotations

import ast
import functools
import re
from dataclasses import dataclass
from pathlib import Path

import diffusers

from probe.families import families
from probe.loading.supported import check_index
from store.errors import UnsupportedBackboneError

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "families.md"
BEGIN, END = (
    "<!-- pipelines of diffusers: written by docs/pipelines.py -->",
    "<!-- end of the pipelines of diffusers -->",
)


@dataclass(frozen=True)
class VideoPipeline:
    """A pipeline class of diffusers that makes clips, and the classes of its denoiser."""

    name: str
    transformer: str | None
    unet: str | None

    def check(self) -> None:
        """Raise for one that is not supported, as loading it does.

        Raises
        ------
        UnsupportedBackboneError
        """
        denoisers = {"transformer": self.transformer, "unet": self.unet}
        check_index(
            {"_class_name": self.name, **{part: ["diffusers", kind] for part, kind in denoisers.items() if kind}}
        )


@functools.cache
def video_pipelines() -> tuple[VideoPipeline, ...]:
    """Return the pipelines of the installed diffusers that make clips, read from its source, which is quick."""
    exported, found = set(dir(diffusers)), {}
    for file in sorted((Path(diffusers.__file__).parent / "pipelines").rglob("pipeline_*.py")):
        text = file.read_text(encoding="utf-8")
        if "num_frames" not in text and "postprocess_video" not in text and "video_length" not in text:
            continue
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and node.name.endswith("Pipeline") and node.name in exported:
                methods = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef)}
                if "__call__" in methods and _makes_clips(methods["__call__"]):
                    parts = _parts(methods.get("__init__"))
                    found[node.name] = VideoPipeline(node.name, parts.get("transformer"), parts.get("unet"))
    return tuple(found[name] for name in sorted(found))


def _makes_clips(call: ast.FunctionDef) -> bool:
    arguments = {argument.arg for argument in (*call.args.args, *call.args.kwonlyargs)}
    return bool(arguments & {"num_frames", "video_length"}) or "video" in ast.unparse(call).partition("\n")[2]


def _parts(init: ast.FunctionDef | None) -> dict[str, str]:
    """First class that annotates each argument."""
    found = {}
    for argument in init.args.args if init is not None else ():
        names = re.findall(r"[A-Z]\w+", ast.unparse(argument.annotation) if argument.annotation else "")
        if names:
            found[argument.arg] = names[0]
    return found


def reason(pipeline: VideoPipeline) -> str | None:
    """Return why a pipeline is refused, in a sentence; None for a supported one."""
    try:
        pipeline.check()
    except UnsupportedBackboneError as error:
        text = str(error)
    else:
        return None
    if "cannot be probed: " in text:
        text = text.split("cannot be probed: ", 1)[1].split(" Supported families: ", 1)[0]
        return text[0].upper() + text[1:]
    called = re.search(r"its transformer is of the (.+?) family\..*? ((?:\w+)\.from_pipe)", text)
    assert called is not None, text
    return f"Its call differs from those of the supported {called[1]} pipelines; `{called[2]}` may convert it into one."


def listing() -> str:
    """Return the two lists: pipelines by family, and refused ones by reason."""
    pipelines = video_pipelines()
    refused: dict[str, list[str]] = {}
    for pipeline in pipelines:
        why = reason(pipeline)
        if why is not None:
            refused.setdefault(why, []).append(f"`{pipeline.name}`")
    names = {pipeline.name for pipeline in pipelines}
    kept = {family.family: [name for name in family.pipelines if name in names] for family in families()}
    count, missing = sum(map(len, kept.values())), sum(map(len, refused.values()))
    lines = [
        f"Of the {len(pipelines)} pipelines of diffusers {diffusers.__version__} that make clips, "
        f"{count} are supported and {missing} rejected:",
        "",
        "| reason for rejecting | pipelines |",
        "| --- | --- |",
        *(f"| {why} | {', '.join(found)} |" for why, found in sorted(refused.items(), key=lambda each: -len(each[1]))),
    ]
    return "\n".join(lines)


def page() -> str:
    """Return the page with the list as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    pattern = f"{re.escape(BEGIN)}.*?{re.escape(END)}"
    if not re.search(pattern, text, re.DOTALL):
        raise SystemExit(f"{PAGE} has no place for the list: put {BEGIN} and {END} where it belongs.")
    return re.sub(pattern, lambda _: f"{BEGIN}\n\n{listing()}\n\n{END}", text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(video_pipelines())} pipelines")
