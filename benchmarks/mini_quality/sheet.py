"""A contact sheet of unchosen clips: ``python -m benchmarks.mini_quality.sheet --backbone mini --out sheet.png``.

One row a clip, images from left to right, with its prompt above; the prompts are those of the first unseen scenes, the
noise of each is its number.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from probe import Backbone, load_backbone
from store import make_scene

_SCALE, _LINE, _GAP, _COLUMNS = 2, 14, 8, 2
_LETTERS, _LINES = 80, 2
"""Letters of a prompt in a line, and lines above a clip."""


def contact_sheet(backbone: Backbone, *, first: int = 1000, count: int = 24, steps: int = 25) -> Image.Image:
    """Clips of the prompts of ``count`` scenes from seed ``first`` on, in two columns."""
    clips = []
    for number in range(count):
        prompt = make_scene(first + number, images=1).prompt
        clips.append(backbone.generate(prompt, seed=number, steps=steps))
    height, width = clips[0].images.shape[1:3]
    wide = _SCALE * width * len(clips[0].images) + _GAP
    above = _LINES * _LINE
    tall = _SCALE * height + above + _GAP
    rows = -(-count // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * wide, rows * tall), "white")
    draw = ImageDraw.Draw(sheet)
    for number, clip in enumerate(clips):
        x, y = number // rows * wide, number % rows * tall
        draw.text((x, y), textwrap.fill(str(clip.prompt), _LETTERS), fill="black")
        strip = Image.fromarray(np.concatenate(list(clip.images), axis=1))
        enlarged = strip.resize((strip.width * _SCALE, strip.height * _SCALE), Image.Resampling.NEAREST)
        sheet.paste(enlarged, (x, y + above))
    return sheet


def main(arguments: list[str] | None = None) -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="mini", help="name or folder")
    parser.add_argument("--out", type=Path, required=True, help="a .png file")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--first", type=int, default=1000, help="seed of the first scene, whose prompt is used")
    options = parser.parse_args(arguments)
    contact_sheet(load_backbone(options.backbone), first=options.first, count=options.count).save(options.out)
    print(options.out)


if __name__ == "__main__":
    main()
