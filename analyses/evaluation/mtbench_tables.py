"""The table of MTBench by difficulty, and the figures that DeT published, with their source."""

from __future__ import annotations

import math
from collections.abc import Iterator

import xarray as xr

from analyses.evaluation.mtbench import AGREEMENT, CONSISTENCY, EDIT, MOTION, mtbench_means
from store.arguments import checked

SOURCE = 'Shi et al., "Decouple and Track" (ICCV 2025), table 2, on the 100 clips and 500 prompts of MTBench'
_LEVELS = ("all", "hard", "medium", "easy")
_TITLES = {MOTION: "MF", EDIT: "EF", CONSISTENCY: "TC", AGREEMENT: "prompt agreement"}
# Method: edit fidelity, temporal consistency and motion fidelity over all clips, hard, medium and easy ones.
PUBLISHED: dict[str, tuple[tuple[float, float, float], ...]] = {
    "MotionDirector": ((31.9, 91.7, 67.7), (32.3, 88.3, 67.9), (32.5, 93.4, 66.8), (30.8, 93.4, 68.3)),
    "SMA": ((31.6, 82.9, 55.1), (32.9, 78.1, 44.1), (32.1, 84.7, 52.1), (29.9, 85.8, 69.2)),
    "MotionClone": ((30.8, 80.9, 78.9), (30.5, 74.4, 72.5), (31.9, 83.4, 79.2), (30.0, 84.8, 85.0)),
    "MOFT": ((33.0, 91.1, 52.5), (33.8, 89.7, 48.0), (33.2, 92.1, 53.2), (31.9, 91.4, 56.3)),
    "DMT (CogVideoX)": ((30.5, 87.6, 65.1), (31.6, 84.1, 64.1), (31.8, 89.0, 64.6), (28.2, 89.6, 66.7)),
    "DreamBooth (CogVideoX)": ((28.4, 85.6, 80.4), (27.5, 83.2, 76.9), (27.9, 84.7, 80.1), (29.9, 88.9, 84.2)),
    "MotionInversion (CogVideoX)": ((26.6, 85.4, 85.0), (27.2, 80.8, 80.7), (27.2, 84.9, 90.8), (25.5, 89.4, 84.6)),
    "DeT (CogVideoX)": ((31.2, 89.6, 85.8), (31.8, 84.7, 80.3), (31.1, 91.5, 92.2), (30.7, 92.7, 84.8)),
    "DeT (HunyuanVideo)": ((31.9, 91.9, 85.9), (31.1, 89.7, 80.1), (32.3, 93.1, 92.2), (31.1, 92.9, 85.4)),
    "DeT (Step-Video-T2V)": ((31.4, 91.6, 85.8), (30.9, 87.6, 80.5), (31.7, 93.5, 91.9), (31.6, 92.7, 85.0)),
}
PUBLISHED_SCALE = 100.0
"""Published figures are in hundredths: edit fidelity times CLIP's 100, the others in percent."""


@checked
def mtbench_table(evaluation: xr.Dataset, *, published: bool = False) -> str:
    """The means of an evaluation by level as Markdown, times 100, with 95 % intervals over clips.

    Parameters
    ----------
    evaluation : Dataset of :func:`analyses.evaluation.mtbench.evaluate_mtbench`
    published : bool
        Add the published figures as further rows. They are of other models and clips than those of a scene benchmark.

    Examples
    --------
    >>> import numpy as np
    >>> from analyses.evaluation.mtbench import METRICS
    >>> shape, over = (1, 2, 1), ("transfer", "clip", "prompt")
    >>> values = {name: (over, np.full(shape, np.nan)) for name in (*METRICS, "seconds")}
    >>> values["motion_fidelity"] = (over, np.array([[[0.5], [0.7]]]))
    >>> coords = {"transfer": ["DeT"], "clip": ["a", "b"], "level": ("clip", ["easy", "hard"])}
    >>> print(mtbench_table(xr.Dataset(values, coords)))
    | method | MF, all (2) | MF, hard (1) | MF, easy (1) |
    |---|---:|---:|---:|
    | DeT | 60.0 (50.0 to 70.0) | 70.0 | 50.0 |
    """
    means = mtbench_means(evaluation)
    lines, names, levels = table_by(means, "level")
    if published:
        lines += [f"| {row} | {' | '.join(cells)} |" for row, cells in _published(names, levels)]
    return "\n".join(lines)


def table_by(means: xr.Dataset, by: str) -> tuple[list[str], list[str], list[str]]:
    """Return the lines of a Markdown table of means by group, and the metrics and groups that it has.

    Parameters
    ----------
    means : Dataset of :func:`analyses.evaluation.mtbench.means_by`
    by : str
        The dimension of the groups.
    """
    names = [name for name in _TITLES if any(math.isfinite(value) for value in means[name].values.ravel())]
    groups = [str(group) for group in means[by].values if int(means["clips"].sel({by: group}))]
    heads = [f"{_TITLES[name]}, {group} ({int(means['clips'].sel({by: group}))})" for group in groups for name in names]
    lines = [f"| method | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for method in means["transfer"].values:
        cells = [_cell(means, name, {by: group}, str(method)) for group in groups for name in names]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines, names, groups


def _cell(means: xr.Dataset, name: str, of: dict[str, str], method: str) -> str:
    values = [float(means[name + suffix].sel({**of, "transfer": method})) for suffix in ("", "_low", "_high")]
    if math.isnan(values[0]):
        return ""
    mean, low, high = (PUBLISHED_SCALE * value for value in values)
    if int(means["clips"].sel(of)) < 2 or math.isnan(low):
        return f"{mean:.1f}"
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def _published(names: list[str], levels: list[str]) -> Iterator[tuple[str, list[str]]]:
    order = (EDIT, CONSISTENCY, MOTION)
    for method, figures in PUBLISHED.items():
        of = dict(zip(_LEVELS, figures, strict=True))
        cells = [f"{of[level][order.index(name)]:.1f}" if name in order else "" for level in levels for name in names]
        yield f"{method}, published", cells


@checked
def published_mtbench() -> xr.Dataset:
    """The published figures over ``level`` and ``transfer``, in hundredths, with their source.

    Examples
    --------
    >>> float(published_mtbench()["motion_fidelity"].sel(level="all", transfer="DeT (CogVideoX)"))
    85.8
    """
    over = ("level", "transfer")
    values = {
        name: (over, [[PUBLISHED[method][row][place] for method in PUBLISHED] for row in range(len(_LEVELS))])
        for place, name in enumerate((EDIT, CONSISTENCY, MOTION))
    }
    return xr.Dataset(values, {"level": list(_LEVELS), "transfer": list(PUBLISHED)}, {"source": SOURCE})
