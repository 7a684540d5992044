"""A recording of format version 1, made when that version was new, is read forever; nothing writes it any more."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from store import Damage, Provenance, RecordingWriter, TokenLayout, open_recording
from store.errors import CorruptRecordingError, NotRecordedError, RecordingError

SAMPLE = Path(__file__).parents[1] / "data" / "recording-v1.zarr"
LATENTS = (np.arange(3 * 2 * 10 * 14) / 7).astype(np.float32).reshape(3, 2, 10, 14)


def values(name, shape, step, layer):
    """Numbers that any version of any library computes alike: multiples of 1/8, exact in float16."""
    numbers = np.arange(np.prod(shape)) * (3 + len(name)) + 17 * step + 5 * layer
    return ((numbers % 509 - 254) / 8).astype(np.float16).reshape(shape)


@pytest.mark.parametrize("memmap", [True, False])
def test_the_sample_is_read(memmap):
    recording = open_recording(SAMPLE, memmap=memmap)
    assert recording.attributes["schema_version"] == 1
    assert recording.state == "open"
    for step, layer in [(2, 1), (2, 4), (9, 1)]:
        where = {"step": step, "layer": layer}
        found = dict(zip(("query", "key"), recording.read(**where), strict=True))
        found |= dict(zip(("text_query", "text_key"), recording.read_text(**where), strict=True))
        found["features"] = recording.read_features(**where)
        for array in recording.plan.arrays:
            np.testing.assert_array_equal(found[array.name], values(array.name, array.record_shape, step, layer))
    with pytest.raises(NotRecordedError):
        recording.read(step=9, layer=4)
    np.testing.assert_array_equal(recording.read_latents(2), LATENTS)
    assert recording.verify() == []
    assert recording.provenance == Provenance(
        model="sample", revision="1", prompt="a red ball", seed=3, softmax_scale=0.5
    )
    assert recording.layout == TokenLayout(3, 5, 7, 80, 84, 9, text_tokens=8)
    assert recording.timesteps.tolist() == [998.0, 991.0]


def test_the_sample_is_read_by_plain_xarray():
    dataset = xr.open_zarr(str(SAMPLE), group="attn", consolidated=False)
    found = dataset["query"].sel(step=2, branch="cond", layer=4).values
    np.testing.assert_array_equal(found, values("query", (2, 2, 5, 7, 4), 2, 4))
    assert np.isnan(dataset["query"].sel(step=9, branch="cond", layer=4).values).all()
    assert dataset["head"].values.tolist() == [0, 2]
    assert dataset.status.values.tolist() == [[[1, 1]], [[1, 0]]]


def test_shard_bytes_are_those_of_the_specification():
    file = SAMPLE / "attn" / "query" / "c.0.0.1.0.0.0.0.0"
    payload, chunk = values("query", (2, 2, 5, 7, 4), 2, 4).astype("<f2").tobytes(), 2 * 5 * 7 * 4
    assert file.read_bytes()[: len(payload)] == payload
    index = np.frombuffer(file.read_bytes()[len(payload) : -4], "<u8").reshape(4, 2)
    assert index.tolist() == [[number * chunk, chunk] for number in range(4)]
    codecs = json.loads((SAMPLE / "attn" / "key" / "zarr.json").read_text())["codecs"]
    assert codecs == [
        {
            "name": "sharding_indexed",
            "configuration": {
                "chunk_shape": [1, 1, 1, 1, 2, 5, 7, 4],
                "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
                "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
                "index_location": "end",
            },
        }
    ]


def test_what_vouches_for_the_sample_is_compared(tmp_path):
    path = tmp_path / "old.zarr"
    shutil.copytree(SAMPLE, path)
    assert open_recording(path).inexact_casts is None  # it was not finished, so nobody counted
    for name in ("latents/c.0.0.0.0.0", "y/c.0"):
        data = bytearray((path / "attn" / name).read_bytes())
        data[6] ^= 1
        (path / "attn" / name).write_bytes(data)
    found = open_recording(path).verify()
    assert [(damage.array, damage.step) for damage in found] == [("y", None), ("latents", 2)]
    assert found[0] == Damage("y", "its values are not those that the attributes lead to")
    with pytest.raises(CorruptRecordingError, match="step 2: the latents cannot be read"):
        open_recording(path).read_latents(2)
    metadata = path / "attn" / "zarr.json"
    metadata.write_text(metadata.read_text().replace("a red ball", "a fed ball"))
    with pytest.raises(CorruptRecordingError, match="their fingerprint is"):
        open_recording(path)


def test_the_sample_is_not_completed_but_may_be_replaced(tmp_path):
    path = tmp_path / "old.zarr"
    shutil.copytree(SAMPLE, path)
    old = open_recording(path)
    with pytest.raises(RecordingError) as caught:
        RecordingWriter(path, old.plan, provenance=old.provenance, resume=True)
    assert str(caught.value) == (
        f"{path} has recording format 1, which is still read but no longer written. Record again to another path, or "
        f"with overwrite=True."
    )
    with RecordingWriter(path, old.plan, provenance=old.provenance, overwrite=True):
        pass
    assert open_recording(path).attributes["schema_version"] == 2
    assert not (path / "attn").exists()
