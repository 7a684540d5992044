"""The view of an explorer as Python code that computes the same arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ditprobe.explorer.view import View

if TYPE_CHECKING:
    from ditprobe.explorer.controller import Explorer


def view_code(explorer: Explorer, view: View) -> str:
    """Code that opens the recording, computes what is shown, and draws it.

    ``attention`` is the map (point or token, frame, y, x) that is shown; of a point there is ``text``, its attention on
    each text token, and ``path``, its match in each frame.
    """
    opened = explorer.recordings[view.recording]
    recording = opened.recording
    where = f"step={view.step}, layer={view.layer}, branch={view.branch!r}"
    chosen = "" if view.head is None else f", heads=[{view.head}]"
    has_text = "text_key" in {array.name for array in recording.plan.arrays}
    scale = recording.provenance.softmax_scale
    usual = scale is None or abs(scale - recording.plan.channels**-0.5) < 1e-9
    scaled = "" if usual else f", scale={scale!r}"
    lines = ["import ditprobe as dp", "", f"run = dp.open_recording({recording.path!r})"]
    lines.append(f"query, key = run.read({where}{chosen})")
    if has_text:
        lines.append(f"text_query, text_key = run.read_text({where}{chosen})")
    layout = "run.layout"
    if len(recording.frames) != recording.layout.frames:
        lines += [
            "import dataclasses",
            "spans = [run.layout.images_of(frame) for frame in run.frames]",
            "layout = dataclasses.replace(run.layout, frames=len(spans), spans=spans)",
        ]
        layout = "layout"
    if view.token is not None:
        names = opened.token_names(view.branch) or []
        name = names[view.token] if view.token < len(names) else ""
        comment = f"  # {name!r}" if name else ""
        if view.towards:
            arguments = f"query, key, text_key, {layout}, tokens=[{view.token}]{scaled}"
            lines += [
                "",
                f"attention = dp.map_attention_to_text({arguments}){comment}",
                "dp.plot_attention(attention).show()",
            ]
            return "\n".join(lines) + "\n"
        lines += [
            "",
            f"attention = dp.attention_of_text(text_query, key, text_key, {layout}{scaled})[[{view.token}]]{comment}",
            "dp.plot_attention(attention).show()",
        ]
        return "\n".join(lines) + "\n"
    source = explorer.source(view)
    x, y = source["point"]
    text = ", text_key=text_key" if has_text else ""
    lines += [
        "",
        f"points, frame = [[{x!r}, {y!r}]], {source['frame']}  # (x, y) in pixels",
        f"attention = dp.attention_of_points(query, key, points, {layout}, frame=frame{text}{scaled})",
    ]
    if has_text:
        lines.append(f"text = dp.attention_to_text(query, key, text_key, points, {layout}, frame=frame{scaled})")
    lines += [
        f"path = dp.match_points(query, key, points, {layout}, frame=frame)  # (frame, point, 2) in pixels",
        "dp.plot_attention(attention).show()",
    ]
    return "\n".join(lines) + "\n"
