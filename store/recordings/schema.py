"""Format versions 2 and 3 of recordings: the attributes and the Zarr metadata (docs/format.md states it)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from store import bfloat16
from store.bfloat16 import StoredDtype
from store.errors import CorruptRecordingError, FormatVersionError, RecordingError
from store.files.atomic import write_atomically
from store.files.digest import digest_of_json
from store.layout import TokenLayout
from store.plan import Plan, PlannedArray
from store.recordings.provenance import Provenance, library_versions
from store.recordings.shards import crc32c, inner_chunk
from store.selection import BRANCHES
from store.wording import Wording

FORMAT = "ditprobe-recording"
SCHEMA_VERSION = 3  # the newest; what is stored in float16 is still written as version 2
GROUP_V1 = "attn"  # where version 1 has its arrays; version 2 has them at the root
MISSING, DONE, DROPPED = 0, 1, 2
RECORD_DIMS = ("step", "branch", "layer")
COUNTS = ("inexact_casts", "overflowing_casts", "stalls", "drops")
LEDGER = ("checksum", "inexact_casts", "timestep", "sigma", "status")  # what changes while a run is recorded
SmallArray = tuple[str, tuple[str, ...], np.ndarray, dict[str, str]]  # name, dims, values, attributes
_SEPARATOR: Any = {"name": "default", "separator": "."}
_RUN = ("run_steps", "layer_count", "head_count", "channels", "features")
OPTIONAL = ("values", "stored_dtype")  # absent from older recordings
_IDENTITY = ("backbone", "geometry", "selection", *_RUN, *OPTIONAL, *asdict(Provenance()))
_CHECKSUM = "attributes_checksum"
_COORDINATES = "timestep sigma layer_name frame_time"
_LONG_NAMES = {
    "query": "query, as the attention multiplies it",
    "key": "key, as the attention multiplies it",
    "value": "value, which the attention weights sum up",
    "text_query": "query of the text tokens",
    "text_key": "key of the text tokens",
    "features": "attention output before its output projection, heads concatenated",
}


def identity(plan: Plan, provenance: Provenance) -> dict[str, Any]:
    """Identity of a run: its plan and its provenance, as plain values."""
    layout = plan.layout
    geometry = {name: getattr(layout, name) for name in TokenLayout.__dataclass_fields__ if name != "spans"}
    geometry["spans"] = [[span.start, span.stop] for span in map(layout.images_of, range(layout.frames))]
    selection = {
        name: list(getattr(plan, name)) for name in ("steps", "layers", "branches", "heads", "frames", "layer_names")
    }
    run = {name: getattr(plan, name) for name in _RUN}
    if plan.values:  # only if present, so that older recordings keep their fingerprint
        run["values"] = True
    if plan.stored_dtype != "float16":
        run["stored_dtype"] = plan.stored_dtype
    whole = {"backbone": plan.backbone, "geometry": geometry, "selection": selection, **run, **provenance.to_dict()}
    plain: dict[str, Any] = json.loads(json.dumps(whole))
    return plain


def fingerprint(values: Mapping[str, Any]) -> str:
    """SHA-256 of an identity, in hexadecimal."""
    return digest_of_json(values)


def version_of(plan: Plan) -> int:
    """The oldest version of the format that can hold a plan."""
    return 2 if plan.stored_dtype == "float16" else SCHEMA_VERSION


def new_attributes(plan: Plan, provenance: Provenance) -> dict[str, Any]:
    """The attributes of a recording that is about to begin; counts are unknown until its writer ends."""
    whole = identity(plan, provenance)
    return sealed(
        {
            "format": FORMAT,
            "schema_version": version_of(plan),
            "state": "open",
            "fingerprint": fingerprint(whole),
            **whole,
            **dict.fromkeys(COUNTS),
            "libraries": library_versions(),
            "coordinates": _COORDINATES,
        }
    )


def sealed(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes with the checksum of all others among them."""
    return {**attributes, _CHECKSUM: _attributes_checksum(attributes)}


def _attributes_checksum(attributes: Mapping[str, Any]) -> int:
    others = {name: value for name, value in attributes.items() if name != _CHECKSUM}
    return crc32c(json.dumps(others, sort_keys=True).encode())


def check_version(attributes: Mapping[str, Any], path: object) -> None:
    """Raise for what is not a recording, or one in a newer format.

    Raises
    ------
    RecordingError, FormatVersionError, CorruptRecordingError
    """
    version = attributes.get("schema_version")
    if attributes.get("format") != FORMAT:
        raise RecordingError(f"{path} is not a recording: its attributes were not written by ditprobe.")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise CorruptRecordingError(
            f"{path} has an unreadable format version {version!r}; versions are numbers from 1 to {SCHEMA_VERSION}. "
            f"Copy it again."
        )
    if version > SCHEMA_VERSION:
        raise FormatVersionError(
            f"{path} has recording format {version}; this ditprobe reads up to format {SCHEMA_VERSION}. "
            f"Update ditprobe to read it."
        )


def check_integrity(attributes: Mapping[str, Any], path: object) -> None:
    """Compare the attributes with their checksum (format 1 has none) and with the fingerprint among them.

    Raises
    ------
    CorruptRecordingError
    """
    found: dict[str, object] = {"fingerprint": fingerprint({k: attributes[k] for k in _IDENTITY if k in attributes})}
    if attributes["schema_version"] > 1 or _CHECKSUM in attributes:
        found[_CHECKSUM] = _attributes_checksum(attributes)
    for name, value in found.items():
        if attributes.get(name) != value:
            raise CorruptRecordingError(
                f"the attributes of {path} are damaged: their {name} is {value!r} instead of {attributes.get(name)!r}.",
                remedy=Wording(
                    "Copy it again, record again with {resume}, or open it with {check} to read what is there.",
                    resume=True,
                    check=False,
                ),
            )


def plan_of(attributes: Mapping[str, Any], path: object) -> Plan:
    """The plan that a recording was made from.

    Raises
    ------
    CorruptRecordingError
        An attribute is missing, of another kind, or selects what cannot be selected.
    """
    try:
        geometry = dict(attributes["geometry"])
        spans = [range(start, stop) for start, stop in geometry.pop("spans")]
        selection: Any = {name: tuple(values) for name, values in attributes["selection"].items()}
        run: Any = {name: attributes[name] for name in _RUN}
        plan = Plan(backbone=attributes["backbone"], layout=TokenLayout(**geometry, spans=spans), **selection, **run)
        stored: Any = attributes.get("stored_dtype", "float16")
        plan = replace(plan, values=attributes.get("values", False) is True, stored_dtype=stored)
        _check_selection(plan)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptRecordingError(f"the attributes of {path} are damaged: {error!r}.") from error
    return plan


def _check_selection(plan: Plan) -> None:
    """Raise for a selection that no writer makes: its numbers must ascend and exist."""
    counts = {
        "steps": plan.run_steps,
        "layers": plan.layer_count,
        "heads": plan.head_count,
        "frames": plan.layout.frames,
    }
    for name, count in counts.items():
        numbers = getattr(plan, name)
        if not numbers or list(numbers) != sorted(set(numbers)) or numbers[0] < 0 or numbers[-1] >= count:
            raise ValueError(f"{name} {list(numbers)} must ascend between 0 and {count - 1}")
    if not plan.branches or list(plan.branches) != [name for name in BRANCHES if name in plan.branches]:
        raise ValueError(f"branches {list(plan.branches)} must be some of {list(BRANCHES)} in this order")
    if plan.stored_dtype not in get_args(StoredDtype):
        raise ValueError(f"stored_dtype {plan.stored_dtype!r} must be one of {list(get_args(StoredDtype))}")
    if len(plan.layer_names) != len(plan.layers):
        raise ValueError(f"{len(plan.layer_names)} layer_names for {len(plan.layers)} layers")


def provenance_of(attributes: Mapping[str, Any]) -> Provenance:
    """The provenance of a recording."""
    return Provenance(**{name: attributes[name] for name in asdict(Provenance()) if name in attributes})


def create(path: Path, plan: Plan, provenance: Provenance) -> None:
    """Make an empty recording at ``path``: all metadata and coordinates, no record."""
    group = zarr.create_group(path, attributes=new_attributes(plan, provenance))
    for array in plan.arrays:
        group.create_array(
            array.name,
            shape=array.shape,
            dtype=array.stored_as,
            chunks=inner_chunk(array),
            shards=(1, 1, 1, *array.record_shape),
            dimension_names=array.dims,
            fill_value=int(bfloat16.NAN) if array.dtype == "bfloat16" else float("nan"),
            compressors=None,
            filters=None,
            chunk_key_encoding=_SEPARATOR,
            attributes={"long_name": _LONG_NAMES[array.name], **_dtype_note(array)},
        )
    counts, unknown = (len(plan.steps), len(plan.branches), len(plan.layers)), np.full(len(plan.steps), np.nan)
    checksums = np.zeros((*counts, len(plan.arrays)), np.uint32)
    small: list[SmallArray] = [
        ("status", RECORD_DIMS, np.zeros(counts, np.uint8), {"long_name": "0 missing, 1 done, 2 dropped"}),
        ("checksum", (*RECORD_DIMS, "array"), checksums, {"long_name": "crc32c of the record's bytes"}),
        ("inexact_casts", RECORD_DIMS, np.zeros(counts, np.int64), {"long_name": "values that the cast changed"}),
        ("timestep", ("step",), unknown, {"long_name": "the scheduler's timestep"}),
        ("sigma", ("step",), unknown, {"long_name": "the scheduler's noise level"}),
        *coordinates(plan),
    ]
    for name, dims, values, attributes in small:
        _small(group, path, name, dims, values, attributes)
    _consolidate(path)


def _dtype_note(array: PlannedArray) -> dict[str, str]:
    return {"bits_of": array.dtype} if array.stored_as != array.dtype else {}


def coordinates(plan: Plan) -> list[SmallArray]:
    """Name, dims, values and attributes of every coordinate that the plan decides."""
    layout = plan.layout
    dy, dx = layout.cell_size
    times = layout.frame_centres[list(plan.frames)]
    rows, columns = (np.arange(layout.height) + 0.5) * dy, (np.arange(layout.width) + 0.5) * dx
    centre = {"long_name": "centre of the cell", "units": "px"}

    def numbers(values: tuple[int, ...]) -> np.ndarray:
        return np.array(values, np.int64)

    def texts(values: Any) -> np.ndarray:
        return np.array(values, dtype=object)

    return [
        ("step", ("step",), numbers(plan.steps), {"long_name": "denoising step, 0 = most noise"}),
        ("layer", ("layer",), numbers(plan.layers), {"long_name": "self-attention layer"}),
        ("head", ("head",), numbers(plan.heads), {"long_name": "attention head"}),
        ("frame", ("frame",), numbers(plan.frames), {"long_name": "latent frame"}),
        ("frame_time", ("frame",), times, {"long_name": "mean image number of the frame", "units": "images"}),
        ("y", ("y",), rows, centre),
        ("x", ("x",), columns, centre),
        ("branch", ("branch",), texts(plan.branches), {"long_name": "branch of classifier-free guidance"}),
        ("layer_name", ("layer",), texts(plan.layer_names), {"long_name": "module path of the layer"}),
        (
            "array",
            ("array",),
            texts([array.name for array in plan.arrays]),
            {"long_name": "array that the checksum belongs to"},
        ),
    ]


def _small(
    group: zarr.Group,
    folder: Path,
    name: str,
    dims: tuple[str, ...],
    values: np.ndarray,
    attributes: dict[str, Any],
) -> None:
    """One chunk that ends in its crc32c: the writer replaces its file as a whole, the reader needs no Zarr for it."""
    numbers = values.dtype != object
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype if numbers else str,  # of variable length: fixed-width strings have no stable specification
        chunks=values.shape,
        dimension_names=dims,
        fill_value=(np.nan if values.dtype.kind == "f" else 0) if numbers else "",
        compressors=[Crc32cCodec()],
        filters=None if numbers else "auto",
        chunk_key_encoding=_SEPARATOR,
        attributes=attributes,
        config={"write_empty_chunks": True},
    )
    if not numbers:
        array[...] = values
        return
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))  # as Zarr writes it, with less waiting
    file = folder / name / ".".join(["c", *"0" * values.ndim])
    file.write_bytes(little.tobytes() + crc32c(little).to_bytes(4, "little"))


def restore(path: Path, plan: Plan, provenance: Provenance) -> None:
    """Rewrite what :func:`create` wrote where it is damaged or missing, or was written by another version of a library.

    What changes while a run is recorded stays as it is.
    """
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "fresh"
        create(fresh, plan, provenance)
        for file in sorted(fresh.rglob("*")):
            target = path / file.relative_to(fresh)
            if file.is_dir():
                target.mkdir(exist_ok=True)
                continue
            fixed = file.name == "zarr.json" or file.parent.name not in LEDGER
            if fixed and not (target.is_file() and target.read_bytes() == file.read_bytes()):
                write_atomically(target, file.read_bytes())


def _consolidate(path: Path) -> None:
    """Put the metadata of every array into that of the root, where xarray looks for them first.

    It never changes afterwards, so a recording whose writer was killed opens as any other does.
    """
    arrays = {file.parent.name: json.loads(file.read_bytes()) for file in sorted(path.glob("*/zarr.json"))}
    root = json.loads((path / "zarr.json").read_bytes())
    root["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": arrays}
    (path / "zarr.json").write_text(json.dumps(root, indent=2))
