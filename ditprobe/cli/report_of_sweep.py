"""The report of a sweep as the verbs write it, with example clips if there is a model to run them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditprobe.cli.console import progress
from store.clips.clip import Clip

if TYPE_CHECKING:
    import xarray as xr

    from analyses.selection.layer_selection import LayerSelection
    from probe.backbones.backbone import Backbone


def best_layer(found: xr.Dataset, chosen: LayerSelection | None) -> tuple[int, int]:
    """Return the best layer, or the last one if none was selected, and the last step."""
    layer = (chosen.layers or chosen.ranked)[0] if chosen is not None else int(found["layer"].values[-1])
    return layer, int(found["step"].values[-1])


def build(
    found: xr.Dataset,
    chosen: LayerSelection | None,
    out: Path,
    model: Backbone | None,
    sources: Mapping[str, Clip | str],
    *,
    examples: int = 3,
    heads: xr.Dataset | None = None,
    levels: tuple[int, ...] | None = None,
    **parts: Any,
) -> Path:
    """Write the report of a sweep, with examples if there is a model to run them, and closer looks by ``levels``.

    ``parts`` are further arguments of :func:`ditprobe.report.report.write_report`; None leaves one at its default.
    """
    from ditprobe.report.examples import SweepSettings, make_examples
    from ditprobe.report.report import write_report

    made = []
    if model is not None and sources:
        layer, step = best_layer(found, chosen)
        with progress("examples") as bar:
            settings = SweepSettings.of_sweep(found.attrs)
            swept = {name: _as_swept(found, name, source) for name, source in sources.items()}
            made = make_examples(model, swept, layer=layer, step=step, settings=settings, count=examples, progress=bar)
    if levels is not None and model is not None and made:
        from ditprobe.report.closer import closer_clip

        # at the clean end of a run, as in the tracking of whole clips, whatever the noise of the sweep
        parts["closer"] = [closer_clip(model, one.name, one.clip, levels=levels, layer=layer, step=-1) for one in made]
    parts = {name: value for name, value in parts.items() if value is not None}
    if heads is not None and model is not None and sources:
        parts["head_examples"] = _of_heads(model, heads, sources)
    return write_report(out, found, chosen, examples=made, head_masses=heads, **parts)


def _of_heads(model: Backbone, heads: xr.Dataset, sources: Mapping[str, Clip | str]) -> list[Any]:
    """Attention of a spatial and a temporal head in the first clip, with the run settings of the measurement."""
    from ditprobe.report.heads import make_head_examples
    from probe.run.windows import cut_windows

    clip = next((source for source in sources.values() if isinstance(source, Clip)), None)
    if clip is None:
        return []
    attrs = heads.attrs
    how: dict[str, Any] = {name: attrs[name] for name in ("noise", "seed", "steps") if name in attrs}
    return make_head_examples(model, cut_windows(model, clip)[0].clip, heads, prompt=attrs.get("prompt_for_all"), **how)


def _as_swept(found: xr.Dataset, name: str, source: Clip | str) -> Clip | str:
    """Return the clip from its first swept image."""
    starts = found["first_image"].values[found["source"].values.astype(str) == name]
    if not isinstance(source, Clip) or not len(starts):
        return source
    ahead = int(starts.min()) - (source.part.first if source.part else 0)
    return source[ahead // (source.part.stride if source.part else 1) :] if ahead > 0 else source
