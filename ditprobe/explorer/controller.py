"""The explorer without a browser: requests go in, values and arrays come out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ditprobe.explorer.navigator import layer_step_map
from ditprobe.explorer.normalisers import Normalisers
from ditprobe.explorer.opened import OpenedRecording
from ditprobe.explorer.tokens import attention_to_token, check_token
from ditprobe.explorer.view import View
from ditprobe.explorer.wire import Answer, as_levels
from store.errors import DitprobeError, InvalidInputError, NotRecordedError

if TYPE_CHECKING:
    import xarray as xr

    from store.layout import TokenLayout


class Explorer:
    """Answers to a front end about one recording, or two of them side by side, and a sweep.

    Parameters
    ----------
    recordings : one or two opened recordings
    sweep : Dataset, optional
        Its layer x step map is the navigator.

    Raises
    ------
    InvalidInputError
        For no recording, more than two, or something that is not a sweep.

    Notes
    -----
    Memory is bounded: keys and queries are read from the memory map at each click, and 64 MB at most are kept.
    Requests may come from several threads.
    """

    def __init__(self, recordings: Sequence[OpenedRecording], *, sweep: xr.Dataset | None = None) -> None:
        if not 1 <= len(recordings) <= 2:
            raise InvalidInputError(f"the explorer shows one recording or two side by side; got {len(recordings)}.")
        self.recordings = tuple(recordings)
        self.sweep = sweep
        self._map = None if sweep is None else layer_step_map(sweep)
        self._normalisers = Normalisers()
        self._last_rows: tuple[View, Any] | None = None

    def answer(self, request: Mapping[str, Any]) -> Answer:
        """The answer to one request of a front end; what cannot be met is an answer with ``error``.

        Parameters
        ----------
        request : ``kind`` is "overview", "attention", "heads", "to_text", "path", "values", "code" or "export"; the
            rest is a view
        """
        kinds = {
            "overview": self.overview,
            "attention": self.attention,
            "heads": self.heads,
            "to_text": self.to_text,
            "path": self.path,
            "values": self.values,
            "code": self.code,
            "export": self.export,
        }
        kind = request.get("kind")
        try:
            if kind not in kinds:
                raise InvalidInputError(f"unknown request {kind!r}. Known requests: {', '.join(kinds)}.")
            return kinds[kind](request)
        except DitprobeError as error:
            return Answer({"error": {"kind": type(error).__name__, "message": str(error)}})

    # What there is ------------------------------------------------------------------------------------------------

    def overview(self, request: Mapping[str, Any] | None = None) -> Answer:
        """Both recordings, the map of the sweep, where to start, and whether the two can be subtracted."""
        for opened in self.recordings:
            opened.refresh()
        return Answer(
            {
                "recordings": [opened.described() for opened in self.recordings],
                "map": self._map,
                "start": self.start(),
                "difference": self._why_no_difference(),
            }
        )

    def start(self) -> dict[str, Any]:
        """Initial view: a recorded step and layer, and the point that moves farthest, or the middle."""
        opened = self.recordings[0]
        step, layer, branch = self._first_record(opened)
        layout = opened.layout
        frame = 0
        image = int(layout.frame_centres[frame])
        point = [layout.pixel_width / 2, layout.pixel_height / 2]
        if opened.clip is not None and opened.clip.tracks is not None and opened.clip.visibility is not None:
            moved = np.linalg.norm(opened.clip.tracks[-1] - opened.clip.tracks[image], axis=-1)
            inside = opened.clip.tracks[image]
            seen = opened.clip.visibility.all(0) & (inside >= 0).all(-1)
            seen &= (inside <= [layout.pixel_width, layout.pixel_height]).all(-1)
            if seen.any():
                point = opened.clip.tracks[image, int(np.where(seen, moved, -1).argmax())].tolist()
        return {"step": step, "layer": layer, "branch": branch, "image": image, "x": point[0], "y": point[1]}

    def _first_record(self, opened: OpenedRecording) -> tuple[int, int, str]:
        """The record with the best moving accuracy of the sweep, else the last step and the middle layer."""
        recording = opened.recording
        best = None if self._map is None else self._map["best"]
        if best is not None and recording.is_done(step=best[0], layer=best[1], branch=recording.branches[0]):
            return best[0], best[1], recording.branches[0]
        done = np.argwhere(recording.status.values == 1)
        if not len(done):
            raise NotRecordedError(f"{recording.path} has no finished record yet. Wait for the first, then reload.")
        middle = (len(recording.layers) - 1) / 2
        step, branch, layer = min(done.tolist(), key=lambda place: (place[1], -place[0], abs(place[2] - middle)))
        return recording.steps[step], recording.layers[layer], recording.branches[branch]

    def _why_no_difference(self) -> str | None:
        """None where cells of both recordings can be subtracted; else what differs."""
        if len(self.recordings) < 2:
            return "there is one recording"
        first, second = (opened.layout for opened in self.recordings)
        grids = [(layout.frames, layout.height, layout.width) for layout in (first, second)]
        if grids[0] != grids[1]:
            told = " and ".join("{} frames of {} x {} cells".format(*grid) for grid in grids)
            return f"the layouts differ: {told}. Each is shown by itself"
        heads = [opened.recording.heads for opened in self.recordings]
        if heads[0] != heads[1]:
            return "the recorded heads differ. Each recording is shown by itself"
        return None

    def picture(self, recording: int, image: int) -> tuple[str, bytes]:
        """An image of a recording's clip as its media type and its bytes.

        Raises
        ------
        InvalidInputError
            There is no such recording or image.
        """
        if not 0 <= recording < len(self.recordings):
            raise InvalidInputError(f"recording {recording} does not exist: there are {len(self.recordings)}.")
        return self.recordings[recording].picture(image)

    def _opened(self, view: View) -> OpenedRecording:
        if view.recording >= len(self.recordings):
            raise InvalidInputError(
                f"recording {view.recording} does not exist: there are {len(self.recordings)}, numbered from 0."
            )
        return self.recordings[view.recording]

    # The attention of a point or of a text token -------------------------------------------------------------------

    def attention(self, request: Mapping[str, Any]) -> Answer:
        """The row of a point or a text token, head by head and their mean.

        Arrays: ``mean`` (1, frame, y, x) float32, ``heads`` (head, frame, y, x) levels, ``text`` (head, token) float32.
        A request with ``brief`` gets no heads, which are nearly all of the bytes: :meth:`heads` has them.
        """
        from analyses.attention.mapped import rows_of_token

        began = time.perf_counter()
        view = View.of(request)
        opened = self._opened(view)
        record = opened.recording.mapped(step=view.step, layer=view.layer, branch=view.branch)
        told: dict[str, Any] = {"kind": "attention"}
        if view.token is None:
            source = self.source(view)
            told |= source
            vector = record["query"][:, source["frame"], *source["cell"]]
        else:
            check_token(record, view.token)
            vector = record["text_query"][:, view.token]
        scale = opened.recording.provenance.softmax_scale
        rows = rows_of_token(vector, record["key"], record.get("text_key"), scale=scale)
        arrays = {"mean": rows.video.mean(0, dtype=np.float32)[None], "text": rows.text}
        scales = {}
        if request.get("brief"):
            self._last_rows = view, rows.video
        else:
            arrays["heads"], scales["heads"] = as_levels(rows.video)
        told["milliseconds"] = round(1000 * (time.perf_counter() - began), 2)
        return Answer(told, arrays, scales)

    def heads(self, request: Mapping[str, Any]) -> Answer:
        """The heads of the row of a request, which :meth:`attention` leaves out of a ``brief`` answer.

        Arrays: ``heads`` (head, frame, y, x) levels.
        """
        last = self._last_rows
        if last is None or last[0] != View.of(request):
            found = self.attention({**request, "brief": False})
            return Answer({"kind": "heads"}, {"heads": found.arrays["heads"]}, found.scales)
        levels, largest = as_levels(last[1])
        return Answer({"kind": "heads"}, {"heads": levels}, {"heads": largest})

    def to_text(self, request: Mapping[str, Any]) -> Answer:
        """Attention of every cell on a text token; see :func:`ditprobe.explorer.tokens.attention_to_token`.

        The first one of a record has to see all of its pairs of tokens, as a path has.
        """
        view = View.of(request)
        opened = self._opened(view)
        record = opened.recording.mapped(step=view.step, layer=view.layer, branch=view.branch)
        return attention_to_token(
            record,
            view.token,
            opened.recording.provenance.softmax_scale,
            lambda compute: self._normalisers.of((view.recording, view.step, view.layer, view.branch, "text"), compute),
        )

    def source(self, view: View) -> dict[str, Any]:
        """The point that is read: the nearest track where one passes within a cell, else the point itself."""
        opened = self._opened(view)
        layout = opened.layout
        point = np.array([view.x, view.y])
        layout.check_inside(point[None])
        frame = opened.frame_of(view.image)
        image, track = int(layout.frame_centres[frame]), opened.track_near(view.image, point)
        if track is not None and opened.clip is not None and opened.clip.tracks is not None:
            visible = opened.clip.visibility is not None and bool(opened.clip.visibility[image, track])
            place = opened.clip.tracks[image, track].astype(np.float64)
            inside = bool(((place >= 0) & (place <= [layout.pixel_width, layout.pixel_height])).all())
            track = track if visible and inside else None
            point = place if track is not None else point
        row, column = layout.cell_at(point)
        return {
            "frame": frame,
            "image": image,
            "point": point.tolist(),
            "cell": [int(row), int(column)],
            "track": track,
        }

    # Where it is found ----------------------------------------------------------------------------------------------

    def path(self, request: Mapping[str, Any]) -> Answer:
        """The match in every frame, by the mean over heads and by each head, and the true track where one is known.

        Arrays: ``mean`` (image, 2), ``heads`` (head, frame, 2), and with a track ``truth`` (image, 2) and ``visible``
        (image), all float32, (x, y) in pixels. The first path from a frame of a record has to see all of its pairs of
        tokens, which takes seconds on a large model; the next ones take milliseconds. A request that comes meanwhile
        for another frame or record ends it: the answer then has ``superseded``.
        """
        from analyses.attention.mapped import backward_normalisers, match_point
        from analyses.correspondence.resampling import to_images

        view = View.of(request)
        opened = self._opened(view)
        layout, source = opened.layout, self.source(view)
        record = opened.recording.mapped(step=view.step, layer=view.layer, branch=view.branch)
        where = (view.recording, view.step, view.layer, view.branch, source["frame"])
        query, key = record["query"], record["key"]
        normalisers = self._normalisers.of(
            where, lambda stopped: backward_normalisers(query, key, source["frame"], stopped=stopped)
        )
        if normalisers is None:
            return Answer({"kind": "path", "superseded": True})
        found = match_point(query, key, normalisers, np.array(source["point"]), source["frame"], layout)
        images = to_images(found.mean[:, None], layout, layout.images)[:, 0]
        told: dict[str, Any] = {"kind": "path", **source, "truth": opened.truth_name, "superseded": False}
        arrays = {"mean": images.astype("<f4"), "heads": found.heads.astype("<f4")}
        if source["track"] is not None and opened.clip is not None and opened.clip.tracks is not None:
            truth = opened.clip.tracks[:, source["track"]].astype("<f4")
            visible = np.asarray(opened.clip.visibility)[:, source["track"]]  # a clip with tracks has visibility
            arrays |= {"truth": truth, "visible": visible.astype("<f4")}
            told |= _errors(found.heads, images, truth, visible, source, layout)
        return Answer(told, arrays)

    # What a head carries ------------------------------------------------------------------------------------------

    def values(self, request: Mapping[str, Any]) -> Answer:
        """Values that the shown head carries: the first three principal components of its values as colours.

        Arrays: ``colours`` (frame, y, x, 3) float32 from 0 to 1.

        Raises
        ------
        NotRecordedError
            The recording has no values.
        """
        view = View.of(request)
        opened = self._opened(view)
        record = opened.recording.mapped(step=view.step, layer=view.layer, branch=view.branch)
        if "value" not in record:
            raise NotRecordedError("values were not recorded. Record again with values=True.")
        from analyses.attention.pca import component_colours, principal_components

        value = record["value"]
        if view.head is not None:
            if view.head not in opened.recording.heads:
                raise NotRecordedError(f"head {view.head} was not recorded.")
            place = opened.recording.heads.index(view.head)
            value = value[place : place + 1]
        components = principal_components(np.asarray(value, np.float32))
        colours = component_colours(components).astype("<f4") / 255
        explained = [float(part) for part in components["explained"].values]
        return Answer({"kind": "values", "explained": explained}, {"colours": colours})

    # Ways out -----------------------------------------------------------------------------------------------------

    def code(self, request: Mapping[str, Any]) -> Answer:
        """The view as Python code."""
        from ditprobe.explorer.code import view_code

        view = View.of(request)
        return Answer({"kind": "code", "code": view_code(self, view)})

    def export(self, request: Mapping[str, Any]) -> Answer:
        """The view as a page without a network that still responds."""
        from ditprobe.explorer.export import export_page

        view = View.of(request)
        return Answer({"kind": "export", "html": export_page(self, view)})


def _errors(
    heads: np.ndarray,
    images: np.ndarray,
    truth: np.ndarray,
    visible: np.ndarray,
    source: Mapping[str, Any],
    layout: TokenLayout,
) -> dict[str, Any]:
    """Mean distances to the truth in cells where it is visible: of the layer, of "nothing moves", of each head.

    Left out are the images of the point's own frame, where it is given.
    """
    cell = np.array(layout.cell_size[::-1])
    centres = np.floor(layout.frame_centres).astype(int)
    counted = visible.copy()
    counted[list(layout.images_of(source["frame"]))] = False
    if not counted.any():
        return {}
    frames = counted[centres]
    off = np.linalg.norm((images - truth) / cell, axis=-1)
    still = np.linalg.norm((np.array(source["point"]) - truth) / cell, axis=-1)
    alone = np.linalg.norm((heads - truth[centres]) / cell, axis=-1)
    return {
        "error_cells": float(off[counted].mean()),
        "still_error_cells": float(still[counted].mean()),
        "head_errors": alone[:, frames].mean(1).tolist() if frames.any() else None,
    }
