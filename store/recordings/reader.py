"""Reading recordings: queries, keys and what goes with them, by step and layer."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from store.arguments import checked, checked_but
from store.bfloat16 import widened
from store.errors import CorruptRecordingError, NotRecordedError, RecordingError
from store.files.damaged import damage_as
from store.layout import TokenLayout
from store.plan import PlannedArray, format_bytes
from store.recordings.lookup import again, index_of, position_of, rows_of
from store.recordings.provenance import Provenance
from store.recordings.schema import (
    DONE,
    DROPPED,
    GROUP_V1,
    RECORD_DIMS,
    check_integrity,
    check_version,
    plan_of,
    provenance_of,
)
from store.recordings.sources import Position, Source, check_arrays, open_source, read_latents
from store.recordings.verify import Damage, Opened, damage_of
from store.selection import resolve_number
from store.wording import Wording

if TYPE_CHECKING:
    import xarray as xr


@checked
def open_recording(path: str | os.PathLike[str], *, memmap: bool | None = None, check: bool = True) -> Recording:
    """Open a recording; reads its metadata only.

    Parameters
    ----------
    path : folder, or a URL that Zarr opens
    memmap : bool, optional
        Read through memory maps (the default for folders) or through Zarr (the default for URLs).
    check : bool
        Compare the attributes with their fingerprint and checksum now, and a record with its checksum when it is first
        read. That reads the whole record once, also when few heads are asked for; without it only a missing or cut-off
        record is noticed.

    Raises
    ------
    RecordingError
        No recording there.
    FormatVersionError
        It was written in a newer format.
    CorruptRecordingError
        Its metadata is damaged, or an array is missing as a whole.

    Examples
    --------
    >>> open_recording("nowhere.zarr")
    Traceback (most recent call last):
    ...
    store.errors.RecordingError: nowhere.zarr is not a recording: it does not exist.
    """
    with damage_as(CorruptRecordingError, f"the metadata of {os.fspath(path)} is damaged", keep=(RecordingError,)):
        source = open_source(path, memmap)
        attributes = source.attributes()
        check_version(attributes, path)
        if check:
            check_integrity(attributes, path)
        return Recording(os.fspath(path), source, attributes, check=check)


class Recording:
    """Queries and keys of one run on one clip; made by :func:`open_recording`.

    Steps, layers and heads are those of the run and the backbone, as everywhere: step -1 is the last step of the run,
    recorded or not.
    """

    def __init__(self, path: str, source: Source, attributes: dict[str, Any], *, check: bool = True) -> None:
        self.path = path
        self.attributes = attributes
        self._source = source
        self._check = check
        self._checked: set[tuple[str, Position]] = set()
        self.plan = plan_of(attributes, path)
        self._arrays = {array.name: array for array in self.plan.arrays}
        check_arrays(source, self.plan.arrays, path)
        counts = (len(self.steps), len(self.branches), len(self.layers))
        self._status = source.small("status", counts, "u1")
        self._checksums = source.small("checksum", (*counts, len(self._arrays)), "<u4")
        self._opened = Opened(source, attributes, self.plan, self._status, self._checksums, path)

    @property
    def layout(self) -> TokenLayout:
        """Geometry of the tokens of the whole clip."""
        return self.plan.layout

    @property
    def steps(self) -> tuple[int, ...]:
        """Recorded steps, ascending."""
        return self.plan.steps

    @property
    def layers(self) -> tuple[int, ...]:
        """Recorded layers, ascending."""
        return self.plan.layers

    @property
    def branches(self) -> tuple[str, ...]:
        """Recorded branches."""
        return self.plan.branches

    @property
    def heads(self) -> tuple[int, ...]:
        """Recorded heads, ascending."""
        return self.plan.heads

    @property
    def frames(self) -> tuple[int, ...]:
        """Recorded latent frames, ascending."""
        return self.plan.frames

    @property
    def inexact_casts(self) -> int | None:
        """Values that the cast to what is stored changed, in the records that are done.

        None for a recording of format 1 that was not finished.
        """
        return self._opened.inexact_casts()

    @property
    def state(self) -> str:
        """ "complete" when every record was written or dropped, "open" before."""
        return str(self.attributes["state"])

    @cached_property
    def provenance(self) -> Provenance:
        """The model, its input and its settings."""
        return provenance_of(self.attributes)

    @cached_property
    def dataset(self) -> xr.Dataset:
        """Everything as a lazy ``xarray.Dataset``; values are read when asked for, without dask.

        Where the recording stores bfloat16, its arrays are the bits as uint16 (:mod:`store.bfloat16` widens them).
        """
        import xarray as xr  # only here: opening a recording takes milliseconds, this import half a second

        old: dict[str, Any] = {"group": GROUP_V1, "consolidated": False} if self._opened.version == 1 else {}
        with damage_as(CorruptRecordingError, f"{self.path} cannot be opened by xarray"):
            return xr.open_zarr(self.path, chunks=None, zarr_format=3, **old)

    @property
    def status(self) -> xr.DataArray:
        """(step, branch, layer) uint8 when the recording was opened: 0 missing, 1 done, 2 dropped."""
        import xarray as xr

        coords = {"step": list(self.steps), "branch": list(self.branches), "layer": list(self.layers)}
        return xr.DataArray(self._status.copy(), coords, RECORD_DIMS, "status")

    @property
    def timesteps(self) -> np.ndarray:
        """(step,) float64: the scheduler's timestep of each recorded step, NaN where unknown."""
        return self._source.small("timestep", (len(self.steps),), "<f8")

    def is_done(self, *, step: int, layer: int, branch: str = "cond") -> bool:
        """Tell whether a record was selected and written."""
        try:
            return bool(self._status[position_of(self.plan, step, layer, branch)] == DONE)
        except NotRecordedError:
            return False

    @checked_but("heads")
    def read(
        self, *, step: int, layer: int, branch: str = "cond", heads: Iterable[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Query and key of the video tokens.

        Parameters
        ----------
        step, layer : int
            Negative ones count from the end of the run and of the backbone.
        branch : "cond" or "uncond"
        heads : iterable of int, optional
            Head numbers of the backbone; the result has them ascending. All recorded ones by default.

        Returns
        -------
        query, key : (head, frame, y, x, channel) float16, post-norm and post-RoPE; copies
            float32 where the recording stores bfloat16: the same numbers, and exactly those again as bfloat16.

        Raises
        ------
        NotRecordedError
            It exists but was not recorded; the message names what was.
        UnknownLayerError
            The backbone or the run has no such step, layer or head.
        InvalidInputError
            ``heads`` is empty or not an iterable, or a number is not an int.
        CorruptRecordingError
            The record is missing or damaged; all others stay readable.
        """
        position, rows = position_of(self.plan, step, layer, branch), rows_of(self.plan, heads)
        return self._fetch("query", position, rows), self._fetch("key", position, rows)

    def read_text(
        self, *, step: int, layer: int, branch: str = "cond", heads: Iterable[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Query and key of the text tokens: (head, token, channel) float16, as :meth:`read`.

        Raises
        ------
        NotRecordedError
            Also for a backbone whose self-attention has no text tokens.
        """
        if "text_query" not in self._arrays:
            raise NotRecordedError(
                f"text tokens were not recorded: the self-attention of {self.plan.backbone} has none. "
                f"Use read() for the video tokens."
            )
        position, rows = position_of(self.plan, step, layer, branch), rows_of(self.plan, heads)
        query, key = (self._fetch(name, position, rows) for name in ("text_query", "text_key"))
        tokens = int((~np.isnan(key[0, :, 0])).sum())  # a shorter text is filled up with NaN
        return query[:, :tokens], key[:, :tokens]

    @checked
    def mapped(self, *, step: int, layer: int, branch: str = "cond") -> dict[str, np.ndarray]:
        """Every array of one record without a copy: what is not touched is not read from the disk.

        Parameters
        ----------
        step, layer, branch : as for :meth:`read`

        Returns
        -------
        dict of read-only float16 arrays (copies in float32 where the recording stores bfloat16)
            ``query`` and ``key`` (head, frame, y, x, channel), and what else was recorded: ``text_query`` and
            ``text_key`` (head, token, channel), ``features`` (frame, y, x, feature), ``value`` (as ``query``). Memory
            maps for a folder on this machine; for a URL the record is read as a whole.

        Raises
        ------
        NotRecordedError, UnknownLayerError, CorruptRecordingError
            As :meth:`read`. With ``check``, the first call reads the record once and compares its checksums.
        """
        position = position_of(self.plan, step, layer, branch)
        found = {name: self._fetch(name, position, None, copy=False) for name in self._arrays}
        if "text_key" in found:
            tokens = int((~np.isnan(found["text_key"][0, :, 0])).sum())  # a shorter text is filled up with NaN
            found |= {name: found[name][:, :tokens] for name in ("text_query", "text_key")}
        return found

    @checked_but("heads")
    def read_values(
        self, *, step: int, layer: int, branch: str = "cond", heads: Iterable[int] | None = None
    ) -> np.ndarray:
        """Values of the video tokens, what each head carries: (head, frame, y, x, channel) float16, as :meth:`read`.

        Raises
        ------
        NotRecordedError
            When values were not asked for.
        """
        if "value" not in self._arrays:
            raise NotRecordedError("values were not recorded.", remedy=again(values=True))
        return self._fetch("value", position_of(self.plan, step, layer, branch), rows_of(self.plan, heads))

    def read_features(self, *, step: int, layer: int, branch: str = "cond") -> np.ndarray:
        """Attention output: (frame, y, x, feature) float16, the heads concatenated along feature.

        Raises
        ------
        NotRecordedError
            When features were not asked for.
        """
        if "features" not in self._arrays:
            raise NotRecordedError("features were not recorded.", remedy=again(features=True))
        return self._fetch("features", position_of(self.plan, step, layer, branch), None)

    def read_latents(self, step: int) -> np.ndarray:
        """Latents after a step: (latent_frame, latent_channel, latent_y, latent_x) float32.

        Only a recording of format 1 may have them.

        Raises
        ------
        NotRecordedError
            When none were written for that step.
        """
        number = resolve_number("step", step, self.plan.run_steps, "run")
        try:
            position = index_of("step", number, self.steps)
            latents = read_latents(self._source, position) if self._opened.version == 1 else None
        except CorruptRecordingError as error:
            raise CorruptRecordingError(f"step {number}: {error}. Every other step stays readable.") from error
        if latents is None:
            raise NotRecordedError(f"latents of step {number} were not recorded. Recordings no longer hold them.")
        return latents

    def verify(self) -> list[Damage]:
        """Read everything, compare it with its checksums and return what is damaged; an empty list if nothing is.

        Compared are every record that is marked done and its checksum; the attributes and their fingerprint; the
        coordinates and the selection; the times and their checksums; and the state "complete" with the number of
        missing records. In format 1, times, status and the attributes outside the fingerprint have no checksum.
        ``record`` with ``resume=True`` records again what is damaged.
        """
        return damage_of(self._opened)

    def _name(self, position: Position) -> tuple[int, str, int]:
        return self.steps[position[0]], self.branches[position[1]], self.layers[position[2]]

    def _fetch(self, name: str, position: Position, rows: list[int] | None, *, copy: bool = True) -> np.ndarray:
        step, branch, layer = self._name(position)
        what = f"step {step}, layer {layer}, branch {branch!r}"
        status = self._status[position]
        if status == DROPPED:
            raise NotRecordedError(f"{what} was dropped: the writer's queue was full.", remedy=again(resume=True))
        if status != DONE:
            open_still = self.state == "open"
            why = (
                "is not written yet, or the run ended before it"
                if open_still
                else "was not written before the run ended"
            )
            raise NotRecordedError(f"{what} {why}.", remedy=again(resume=True))
        array: PlannedArray = self._arrays[name]
        crc = int(self._checksums[position][list(self._arrays).index(name)])
        check = self._check and (name, position) not in self._checked
        try:
            if copy:
                values = self._source.record(array, position, rows, crc if check else None)
            else:
                values = self._source.view(array, position, crc if check else None)
        except CorruptRecordingError as error:
            raise CorruptRecordingError(
                f"{what} of {self.path} is damaged: {error}. Every other record stays readable.",
                remedy=Wording("Record again with {resume} to replace what is damaged.", resume=True),
            ) from error
        self._checked.add((name, position))
        return widened(values) if array.dtype == "bfloat16" else values

    def _repr_html_(self) -> str:
        from store.notebook import repr_html

        return repr_html(repr(self))

    def __repr__(self) -> str:
        done = int((self._status == DONE).sum())
        title = f"Recording of {self.plan.backbone}: {self.state}, {done} of {self.plan.records} records"
        lines = [f"{title}, {format_bytes(self.plan.nbytes * done // self.plan.records)}", *self.plan.lines()]
        if self.provenance.prompt is not None:
            lines.append(f"  prompt    {self.provenance.prompt!r}")
        return "\n".join(lines)
