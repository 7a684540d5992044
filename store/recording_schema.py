"""Format version 1 of recordings: the attributes and the Zarr metadata (docs/format.md states it)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from store.errors import CorruptRecordingError, FormatVersionError, RecordingError
from store.layout import TokenLayout
from store.plan import Plan
from store.provenance import Provenance, library_versions
from store.shards import inner_chunk

FORMAT = "ditprobe-recording"
SCHEMA_VERSION = 1
GROUP = "attn"
MISSING, DONE, DROPPED = 0, 1, 2
RECORD_DIMS = ("step", "branch", "layer")
_SEPARATOR: Any = {"name": "default", "separator": "."}
_RUN = ("run_steps", "layer_count", "head_count", "channels", "features")
_COORDINATES = "timestep sigma layer_name frame_time"
_LONG_NAMES = {
    "query": "query, as the attention multiplies it",
    "key": "key, as the attention multiplies it",
    "text_query": "query of the text tokens",
    "text_key": "key of the text tokens",
    "features": "attention output before its output projection, heads concatenated",
}


def identity(plan: Plan, provenance: Provenance) -> dict[str, Any]:
    """What makes two runs the same run: the plan and the provenance, as plain values."""
    layout = plan.layout
    geometry = {name: getattr(layout, name) for name in TokenLayout.__dataclass_fields__ if name != "spans"}
    geometry["spans"] = [[span.start, span.stop] for span in map(layout.images_of, range(layout.frames))]
    selection = {
        name: list(getattr(plan, name)) for name in ("steps", "layers", "branches", "heads", "frames", "layer_names")
    }
    run = {name: getattr(plan, name) for name in _RUN}
    whole = {"backbone": plan.backbone, "geometry": geometry, "selection": selection, **run, **provenance.to_dict()}
    plain: dict[str, Any] = json.loads(json.dumps(whole))
    return plain


def fingerprint(values: Mapping[str, Any]) -> str:
    """SHA-256 of an identity, in hexadecimal."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def new_attributes(plan: Plan, provenance: Provenance) -> dict[str, Any]:
    """The attributes of a recording that is about to begin."""
    whole = identity(plan, provenance)
    return {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "state": "open",
        "fingerprint": fingerprint(whole),
        **whole,
        "inexact_casts": 0,
        "overflowing_casts": 0,
        "stalls": 0,
        "drops": 0,
        "libraries": library_versions(),
        "coordinates": _COORDINATES,
    }


def check_attributes(attributes: Mapping[str, Any], path: object) -> None:
    """Refuse what is no recording, or one in a newer format.

    Raises
    ------
    RecordingError, FormatVersionError, CorruptRecordingError
    """
    version = attributes.get("schema_version")
    if attributes.get("format") != FORMAT:
        raise RecordingError(f"{path} is not a recording: its group {GROUP!r} was not written by ditprobe.")
    if not isinstance(version, int) or version < 1:
        raise CorruptRecordingError(
            f"{path} has an unreadable format version {version!r}; versions are numbers from 1 to {SCHEMA_VERSION}. "
            f"Copy it again."
        )
    if version > SCHEMA_VERSION:
        raise FormatVersionError(
            f"{path} has recording format {version}; this ditprobe reads up to format {SCHEMA_VERSION}. "
            f"Update ditprobe to read it."
        )


def plan_of(attributes: Mapping[str, Any], path: object) -> Plan:
    """The plan that a recording was made from."""
    try:
        geometry = dict(attributes["geometry"])
        spans = [range(start, stop) for start, stop in geometry.pop("spans")]
        selection: Any = {name: tuple(values) for name, values in attributes["selection"].items()}
        run: Any = {name: attributes[name] for name in _RUN}
        return Plan(backbone=attributes["backbone"], layout=TokenLayout(**geometry, spans=spans), **selection, **run)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptRecordingError(f"the attributes of {path} are damaged: {error!r}.") from error


def provenance_of(attributes: Mapping[str, Any]) -> Provenance:
    """The provenance of a recording."""
    return Provenance(**{name: attributes[name] for name in asdict(Provenance()) if name in attributes})


def create(path: Path, plan: Plan, provenance: Provenance) -> None:
    """Make an empty recording at ``path``: all metadata and coordinates, no record."""
    zarr.create_group(path, attributes={"format": FORMAT})
    group = zarr.create_group(path, path=GROUP, attributes=new_attributes(plan, provenance))
    for array in plan.arrays:
        group.create_array(
            array.name,
            shape=array.shape,
            dtype=array.dtype,
            chunks=inner_chunk(array),
            shards=(1, 1, 1, *array.record_shape),
            dimension_names=array.dims,
            fill_value=float("nan"),
            compressors=None,
            filters=None,
            chunk_key_encoding=_SEPARATOR,
            attributes={"long_name": _LONG_NAMES[array.name]},
        )
    counts = (len(plan.steps), len(plan.branches), len(plan.layers))
    _small(group, "status", np.zeros(counts, np.uint8), RECORD_DIMS, long_name="0 missing, 1 done, 2 dropped")
    checksums = np.zeros((*counts, len(plan.arrays)), np.uint32)
    _small(group, "checksum", checksums, (*RECORD_DIMS, "array"), long_name="crc32c of the record's bytes")
    _write_coordinates(group, plan)


def _write_coordinates(group: zarr.Group, plan: Plan) -> None:
    layout = plan.layout
    dy, dx = layout.cell_size
    unknown = np.full(len(plan.steps), np.nan)
    times = layout.frame_centres[list(plan.frames)]
    rows, columns = (np.arange(layout.height) + 0.5) * dy, (np.arange(layout.width) + 0.5) * dx
    _small(group, "step", np.array(plan.steps, np.int64), ("step",), long_name="denoising step, 0 = most noise")
    _small(group, "timestep", unknown, ("step",), long_name="the scheduler's timestep")
    _small(group, "sigma", unknown, ("step",), long_name="the scheduler's noise level")
    _small(group, "layer", np.array(plan.layers, np.int64), ("layer",), long_name="self-attention layer")
    _small(group, "head", np.array(plan.heads, np.int64), ("head",), long_name="attention head")
    _small(group, "frame", np.array(plan.frames, np.int64), ("frame",), long_name="latent frame")
    _small(group, "frame_time", times, ("frame",), long_name="mean image number of the frame", units="images")
    _small(group, "y", rows, ("y",), long_name="centre of the cell", units="px")
    _small(group, "x", columns, ("x",), long_name="centre of the cell", units="px")
    _strings(group, "branch", plan.branches, "branch of classifier-free guidance")
    _strings(group, "layer_name", plan.layer_names, "module path of the layer", dim="layer")
    _strings(group, "array", [array.name for array in plan.arrays], "array that the checksum belongs to")


def _small(group: zarr.Group, name: str, values: np.ndarray, dims: tuple[str, ...], **attributes: Any) -> None:
    """One uncompressed chunk: the writer replaces its file as a whole, the reader reads it without Zarr."""
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=values.shape,
        dimension_names=dims,
        fill_value=np.nan if values.dtype.kind == "f" else 0,
        compressors=None,
        filters=None,
        chunk_key_encoding=_SEPARATOR,
        attributes=attributes,
        config={"write_empty_chunks": True},
    )
    array[...] = values


def _strings(group: zarr.Group, name: str, values: Any, long_name: str, dim: str | None = None) -> None:
    array = group.create_array(
        name,
        shape=(len(values),),
        dtype=str,  # variable length: fixed-width strings have no stable Zarr specification
        dimension_names=(dim or name,),
        compressors=None,
        chunk_key_encoding=_SEPARATOR,
        attributes={"long_name": long_name},
    )
    array[:] = np.array(values, dtype=object)


def create_latents(path: Path, steps: int, shape: tuple[int, ...]) -> None:
    """Add the array of latents, one chunk a step, whose bytes end in their crc32c."""
    zarr.open_group(path, path=GROUP, mode="r+", zarr_format=3).create_array(
        "latents",
        shape=(steps, *shape),
        dtype=np.float32,
        chunks=(1, *shape),
        dimension_names=("step", "latent_frame", "latent_channel", "latent_y", "latent_x"),
        fill_value=float("nan"),
        compressors=[Crc32cCodec()],
        chunk_key_encoding=_SEPARATOR,
        attributes={"long_name": "latents after the step"},
    )


def latents_shape(path: Path) -> tuple[int, ...] | None:
    """Shape of the latents of one step, None before the first."""
    file = path / GROUP / "latents" / "zarr.json"
    return tuple(json.loads(file.read_bytes())["shape"][1:]) if file.is_file() else None
