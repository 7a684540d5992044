"""Every kind of file that is written: read back as it was, or rejected by name, never something else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import zarr

from analyses.evaluation.checkpoint import EvaluationCheckpoint, FinishedClip
from analyses.evaluation.files import load_evaluation, save_evaluation
from analyses.flow.attention_flow import labelled_flow
from analyses.flow.files import load_flow, save_flow
from analyses.layers.sweep_files import load_sweep, save_sweep
from analyses.metrics.tapvid import METRICS
from analyses.selection.files import load_selection, save_selection
from analyses.selection.layer_selection import LayerSelection
from generators.transfer.embedding import MotionEmbedding
from generators.transfer.embedding_files import load_embedding, save_embedding
from probe.attention.positions import AddedPositions
from probe.backbones.geometry import Size
from store import Clip, open_recording, read_clip, read_tapvid, write_clip, write_tapvid
from store.errors import DitprobeError, RecordingError
from store.files.digest import DIGEST
from store.layout import TokenLayout
from store.tracks.files import load_tracks, save_tracks
from store.tracks.point_tracks import PointTracks

BEFORE = Path(__file__).parents[1] / "data/before_digests"
SETTINGS = {"mode": "first"}
IMAGES = np.zeros((3, 32, 32, 3), np.uint8)
IMAGES[:, 8:16, 8:16] = 200
CLIP = Clip(IMAGES, fps=8, tracks=np.array([[[10.0, 20.0]], [[13.0, 20.0]], [[16.0, 20.0]]]), prompt="a square")
TRACKS = PointTracks(
    np.array([[0, 1.5, 2.5], [2, 3.25, 1.0]]),
    np.arange(12.0).reshape(3, 2, 2),
    np.array([[1, 0], [1, 1], [0, 1]], bool),
    np.linspace(0, 1, 6).reshape(3, 2),
    {"prompt": "ein Löwe", "layer": 4},
)
FLOW = labelled_flow(np.arange(48.0).reshape(2, 2, 2, 3, 2), TokenLayout(2, 2, 3, 32, 48, 2))
SWEEP = xr.Dataset({"accuracy": ("clip", [50.0, 25.0])}, attrs={"sizes": [1, 2], "name": "mini"})
EMBEDDING = MotionEmbedding(
    "mini", Size(40, 40, 6), 50, {0: AddedPositions(torch.arange(8.0).reshape(1, 2, 2, 2))}, {"prompt": "left"}
)
EVALUATION = xr.Dataset(
    {**{name: (("tracker", "clip"), [[0.5, 0.25]]) for name in METRICS}, "queries": ("clip", [3, 4])},
    {"tracker": ["still"], "clip": ["goat", "Löwe"]},
    {"settings": '{"mode": "first"}', "skipped": "[]"},
)

CHOSEN = LayerSelection((5, 4), xr.Dataset(), 2, "last", 49, 2000, 0, 8, steps=50, backbone="mini")


def finished(path: Path) -> dict[tuple[str, str], FinishedClip]:
    return EvaluationCheckpoint(path, SETTINGS, resume=True).finished


def write_checkpoint(_: None, path: Path) -> None:
    checkpoint = EvaluationCheckpoint(path, SETTINGS)
    for name in ("goat", "swan", "fox"):
        checkpoint.add(FinishedClip("still", name, "1f", 90, 25, dict.fromkeys(METRICS, 0.5), 2.0))


def plain(value: Any) -> dict[str, Any]:
    """What is compared of a value: texts and numbers by name."""
    if isinstance(value, PointTracks):
        names = ("queries", "tracks", "visibility", "confidence")
        return {name: getattr(value, name).tolist() for name in names} | {"details": dict(value.details)}
    if isinstance(value, xr.Dataset | xr.DataArray):
        told = value.to_dict(encoding=False)
        # a digest whose name was damaged is an attribute like others, and beside the values
        told["attrs"] = {name: each for name, each in value.attrs.items() if len(str(each)) != 64}
        return told
    if isinstance(value, MotionEmbedding):
        return {"what": (value.backbone, value.size, value.steps, dict(value.details))} | {
            str(step): {name: table.tolist() for name, table in positions.tensors().items()}
            for step, positions in value.positions.items()
        }
    if isinstance(value, Clip):
        arrays = {name: getattr(value, name) for name in ("images", "tracks", "visibility")}
        return {name: array.tolist() for name, array in arrays.items()} | {"prompt": value.prompt, "fps": value.fps}
    if isinstance(value, LayerSelection):
        return {"chosen": repr(value), "layers": value.layers, "backbone": value.backbone}
    return dict(value)


@dataclass(frozen=True)
class Kind:
    """A kind of file: what writes it, what reads it, and how many damages are tried."""

    name: str
    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    tries: int = 120


KINDS = [
    *(Kind(f"tracks.{end}", lambda path: save_tracks(TRACKS, path), load_tracks, n)
      for end, n in (("npz", 120), ("nc", 120), ("zarr", 60))),
    *(Kind(f"flow.{end}", lambda path: save_flow(FLOW, path), load_flow, n)
      for end, n in (("npz", 120), ("nc", 120), ("zarr", 60))),
    Kind("sweep.nc", lambda path: save_sweep(SWEEP, path), load_sweep),
    Kind("tapvid.nc", lambda path: save_evaluation(EVALUATION, path), load_evaluation),
    Kind("clips.jsonl", lambda path: write_checkpoint(None, path), finished),
    Kind("left.safetensors", lambda path: save_embedding(EMBEDDING, path), load_embedding),
    Kind("one.pkl", lambda path: write_tapvid(path, {"goat": CLIP}), lambda path: read_tapvid(path)["goat"]),
    Kind("layers.json", lambda path: save_selection(CHOSEN, path), load_selection),
    Kind("square.mp4", lambda path: write_clip(path, CLIP), read_clip),
]  # fmt: skip


def damages(content: bytes, seed: int, tries: int) -> list[bytes]:
    """Cut, with one bit flipped, with a part overwritten, with a part taken out, and other things altogether."""
    rng = np.random.default_rng(seed)
    found = [b"", b"text", content[:-1], content[: len(content) // 2], content + b"\0", content[::-1]]
    for number in range(tries):
        at, changed = int(rng.integers(len(content))), bytearray(content)
        if number % 4 < 2:
            changed[at] ^= 1 << int(rng.integers(8))
        elif number % 4 == 2:
            changed[at : at + 8] = rng.bytes(min(8, len(content) - at))
        else:
            del changed[at : at + int(rng.integers(1, 40))]
        found.append(bytes(changed))
    return found


@pytest.mark.filterwarnings("ignore")  # of the libraries, about what they cannot read
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_damaged_file_is_refused_by_name_or_read_as_it_was(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / kind.name
    kind.write(path)
    whole = plain(kind.read(path))
    files = sorted(file for file in tmp_path.rglob("*") if file.is_file())
    rng, messages = np.random.default_rng(0), []
    several = len(files) > 1
    for seed in range(kind.tries if several else 1):
        file = files[int(rng.integers(len(files)))]
        content = file.read_bytes()
        for changed in damages(content, seed, 1 if several else kind.tries)[-1 if several and seed else 0 :]:
            file.write_bytes(changed)
            try:
                found = plain(kind.read(path))
            except DitprobeError as error:
                messages.append(str(error))
            else:
                same = found.items() <= whole.items() if kind.name == "clips.jsonl" else found == whole
                assert same, f"seed {seed}, {file.name}: {found}"
        file.write_bytes(content)
    assert messages
    assert not any("\n" in message for message in messages)
    assert plain(kind.read(path)) == whole


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name != "layers.json"], ids=lambda kind: kind.name)
def test_files_from_before_there_were_digests_are_read(tmp_path: Path, kind: Kind) -> None:
    new = tmp_path / kind.name
    kind.write(new)
    if kind.name == "clips.jsonl":
        old = [json.loads(line) for line in (BEFORE / kind.name).read_bytes().splitlines()]
        new.write_bytes((BEFORE / kind.name).read_bytes())
        found = EvaluationCheckpoint(new, old[0]["settings"], resume=True).finished
        assert found["still", "goat"].seconds == old[1]["seconds"]
        return
    found = kind.read(BEFORE / kind.name)
    if kind.name == "tapvid.nc":
        assert found["average_jaccard"].shape == (1, 1)
        return
    assert plain(found) == plain(kind.read(new))


def changed_netcdf(path: Path) -> None:
    with xr.open_dataset(path, engine="scipy") as opened:
        dataset = opened.load()
    name = max(dataset.data_vars, key=lambda name: dataset[name].size)
    dataset[name] = dataset[name] + 1
    dataset.to_netcdf(path, engine="scipy")


def changed_zarr(path: Path) -> None:
    group = zarr.open_group(path, mode="r+")
    stored = next(group[name] for name in ("tracks", "flow") if name in group)
    stored[...] = stored[...] + 1


def changed_npz(path: Path) -> None:
    with np.load(path) as file:
        found = dict(file)
    name = "flow" if "flow" in found else "tracks"
    found[name] = found[name] + 1
    np.savez(path, **found)


def changed_bytes(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def changed_text(path: Path) -> None:
    path.write_text(path.read_text().replace('"images": 90', '"images": 91'))


def changed_embedding(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


CHANGES = {
    ".nc": changed_netcdf,
    ".zarr": changed_zarr,
    ".npz": changed_npz,
    ".jsonl": changed_text,
    ".safetensors": changed_embedding,
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_wrong_digest_says_that_the_file_is_damaged(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / kind.name
    kind.write(path)
    CHANGES.get(path.suffix, changed_bytes)(path)
    with pytest.raises(DitprobeError, match=r"damaged.*digest"):
        kind.read(path)


def test_a_video_that_was_written_anew_has_no_digest_and_is_read(tmp_path: Path) -> None:
    import av

    old, new = write_clip(tmp_path / "old.mp4", CLIP), tmp_path / "new.mp4"
    with av.open(str(old)) as source, av.open(str(new), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert DIGEST.encode() in old.read_bytes()
    assert DIGEST.encode() not in new.read_bytes()
    np.testing.assert_array_equal(read_clip(new).images, read_clip(old).images)


class Ran:
    """Pickled as a call that makes a file."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.sentinel),)


def zarr_2(folder: Path, name: str, sentinel: Path) -> None:
    """A Zarr 2 group with one array whose metadata asks for the codec that unpickles."""
    import pickle

    array = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "fill_value": "", "order": "C"}
    array |= {"compressor": {"id": "pickle", "protocol": 5}, "filters": [{"id": "vlen-utf8"}]}
    (folder / name).mkdir(parents=True)
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    (folder / name / ".zarray").write_text(json.dumps(array))
    (folder / name / ".zattrs").write_text('{"_ARRAY_DIMENSIONS": ["image"]}')
    (folder / name / "0").write_bytes(pickle.dumps(Ran(sentinel)))


def test_zarr_2_whose_codec_unpickles_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE", True)
    sentinel = tmp_path / "ran"
    for name in ("tracks", "flow", "status"):
        zarr_2(tmp_path / "a.zarr", name, sentinel)
        zarr_2(tmp_path / "a.zarr/attn", name, sentinel)
    for read in (load_tracks, load_flow, lambda path: open_recording(path, memmap=False), open_recording):
        with pytest.raises(RecordingError):
            read(tmp_path / "a.zarr")
    assert not sentinel.exists()
    with pytest.raises(Exception):  # noqa: B017  # what the codec makes of it is no text
        zarr.open_group(tmp_path / "a.zarr", mode="r")["tracks"][...]
    assert sentinel.exists()


def test_a_zarr_that_claims_terabytes_is_refused_at_once(tmp_path: Path) -> None:
    path = save_tracks(TRACKS, tmp_path / "tracks.zarr")
    file = path / "tracks/zarr.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps(told | {"shape": [1 << 20, 1 << 20, 2]}))
    with pytest.raises(RecordingError, match="damaged"):
        load_tracks(path)
    file.write_text(json.dumps(told))
    for name in ("tracks", "visibility", "confidence"):
        where = path / name / "zarr.json"
        each = json.loads(where.read_text())
        each["shape"][0] = 1 << 40
        where.write_text(json.dumps(each))
    with pytest.raises(RecordingError, match="its arrays would have"):
        load_tracks(path)


def test_interrupts_pass_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_tracks(TRACKS, tmp_path / "tracks.nc")
    for stop in (KeyboardInterrupt, SystemExit):

        def stopped(*_: Any, stop: type[BaseException] = stop, **__: Any) -> None:
            raise stop

        monkeypatch.setattr(xr, "open_dataset", stopped)
        with pytest.raises(stop):
            load_tracks(path)


def test_what_was_raised_stays_the_cause(tmp_path: Path) -> None:
    path = save_tracks(TRACKS, tmp_path / "tracks.nc")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(RecordingError) as caught:
        load_tracks(path)
    assert caught.value.__cause__ is not None
