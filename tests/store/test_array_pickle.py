"""Pickles of arrays come back as they were; nothing else that a pickle asks for is done."""

from __future__ import annotations

import collections
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.array_pickle import load_array_pickle
from store.errors import ClipError, DitprobeError, UnsafePickleError

DTYPES = ("uint8", "bool", "float32", "float64", ">f8", "<i8", "float16", "S7", "U3")


def loaded(folder: Path, content: bytes):
    path = folder / "some.pkl"
    path.write_bytes(content)
    return load_array_pickle(path)


def renamed(content: bytes, old: str, new: str) -> bytes:
    """A pickle of one frame with another module name in it."""
    text = b"\x8c" + bytes([len(old)]) + old.encode()
    assert content.count(text) == 1
    content = content.replace(text, b"\x8c" + bytes([len(new)]) + new.encode())
    return content[:3] + struct.pack("<Q", len(content) - 11) + content[11:]


class Calls:
    """Pickled as a call of a function with arguments."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def global_(module: str, name: str) -> bytes:
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    st.integers(0, 2**32),
    st.lists(st.integers(0, 4), max_size=4),
    st.sampled_from(DTYPES),
    st.integers(0, 5),
    st.integers(0, 2),
)
def test_arrays_come_back_as_they_were(tmp_path_factory, seed, shape, dtype, protocol, order):
    values = np.random.default_rng(seed).integers(0, 2, shape).astype(dtype)
    values = (values, np.asfortranarray(values), np.moveaxis(values, 0, -1) if shape else values)[order]
    content = {"a": [values, (values.copy(), 3, 2.5, None, True)], "b": {"name": b"bytes"}}
    written = pickle.dumps(content, protocol)
    back, plain = loaded(tmp_path_factory.mktemp("arrays"), written), pickle.loads(written)
    first, (second, *rest) = back["a"]
    for found in (first, second):
        np.testing.assert_array_equal(found, values)
        assert found.dtype == plain["a"][0].dtype  # protocols below 5 turn the bytes to the machine's order
    assert rest == [3, 2.5, None, True]
    assert back["b"] == {"name": b"bytes"}


@pytest.mark.parametrize("protocol", range(6))
def test_scalars_ordered_dicts_and_bytes(tmp_path, protocol):
    content = collections.OrderedDict(
        {np.str_("clip"): np.float32(2.5), "raw": bytearray(b"\xff\x00a"), "none": b"", "flag": np.bool_(True)}
    )
    back = loaded(tmp_path, pickle.dumps(content, protocol))
    assert back == {"clip": 2.5, "raw": b"\xff\x00a", "none": b"", "flag": True}


@pytest.mark.parametrize(("protocol", "module"), [(4, "multiarray"), (5, "numeric")])
def test_names_from_before_numpy_2(tmp_path, protocol, module):
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    content = renamed(pickle.dumps(values, protocol), f"numpy._core.{module}", f"numpy.core.{module}")
    np.testing.assert_array_equal(loaded(tmp_path, content), values)


@pytest.mark.parametrize("protocol", [0, 2, 3])
def test_names_from_before_numpy_2_in_old_protocols(tmp_path, protocol):
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    content = pickle.dumps(values, protocol)
    assert b"cnumpy._core.multiarray\n" in content
    content = content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    np.testing.assert_array_equal(loaded(tmp_path, content), values)


def working_attacks(sentinel: str) -> dict[str, tuple[bytes, str]]:
    """Pickles that make a file when they are loaded, each with the name that it asks for."""
    touch, code = f"touch {sentinel}", f"open({sentinel!r}, 'w').close()"
    system, opened = Calls(os.system, touch), Calls(open, sentinel, "w")
    nested = {"goat": {"video": np.zeros((2, 2), np.float32), "points": [(system,)]}}
    getattr_ = global_("builtins", "getattr") + b"(" + global_("posix", "posix_spawn") + text("__call__") + b"tR0"
    return {
        "posix.system": (pickle.dumps(system), "posix.system"),
        "os.system": (global_("os", "system") + b"(" + text(touch) + b"tR.", "os.system"),
        "eval": (pickle.dumps(Calls(eval, code)), "builtins.eval"),
        "exec in protocol 0": (pickle.dumps(Calls(exec, code), 0), "__builtin__.exec"),
        "open": (pickle.dumps(opened), f"{open.__module__}.open"),
        "nested in clips": (pickle.dumps(nested), "posix.system"),
        "as a dict key": (pickle.dumps({(system,): 1}), "posix.system"),
        "in an object array": (pickle.dumps(np.array([system], object)), "posix.system"),
        "after getattr": (getattr_ + pickle.dumps(system), "builtins.getattr"),
        "INST": (b"(" + text(touch) + b"ios\nsystem\n.", "os.system"),
        "OBJ": (b"(" + global_("os", "system") + text(touch) + b"o.", "os.system"),
        "numpy's runstring": (
            global_("numpy.testing._private.utils", "runstring") + b"(" + text(code) + b"}tR.",
            "numpy.testing._private.utils.runstring",
        ),
    }


BY_NAME = {
    "import": (global_("builtins", "__import__") + b"(" + text("os") + b"tR.", "builtins.__import__"),
    "numpy.load": (global_("numpy", "load") + b"(" + text("other.npy") + b"tR.", "numpy.load"),
    "dotted name": (
        b"\x80\x04" + text("numpy._core.multiarray") + text("sys.modules") + b"\x93.",
        "numpy._core.multiarray.sys.modules",
    ),
    "globals of a function": (
        b"\x80\x04" + text("numpy._core.numeric") + text("_frombuffer.__globals__") + b"\x93.",
        "numpy._core.numeric._frombuffer.__globals__",
    ),
    "a class of our own": (global_("store.array_pickle", "_Array") + b".", "store.array_pickle._Array"),
    "an object from outside": (text("tensor") + b"Q.", "the outside object 'tensor'"),
}


def attack(name: str, sentinel: Path) -> tuple[bytes, str]:
    return (working_attacks(str(sentinel)) | BY_NAME)[name]


@pytest.mark.parametrize("name", [*working_attacks("ran"), *BY_NAME])
def test_what_is_no_array_is_refused_by_name_and_nothing_runs(tmp_path, name):
    sentinel = tmp_path / "ran"
    content, asked = attack(name, sentinel)
    with pytest.raises(UnsafePickleError) as caught:
        loaded(tmp_path, content)
    assert str(caught.value) == (
        f"{tmp_path / 'some.pkl'} asks for {asked}, which no TAP-Vid file needs; nothing was run."
    )
    assert not sentinel.exists()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", working_attacks("ran"))
def test_the_attacks_work_on_a_plain_pickle_load(tmp_path, name):
    sentinel = tmp_path / "ran"
    content, _ = attack(name, sentinel)
    pickle.loads(content)
    assert sentinel.exists()


def refused(folder: Path, content: bytes) -> str:
    with pytest.raises(DitprobeError) as caught:
        loaded(folder, content)
    return str(caught.value)


DTYPE = global_("numpy", "dtype") + b"(" + text("f4") + b"I00\nI01\ntR"
STATE = b"(I3\n" + text("<") + b"NNNI-1\nI-1\nI0\nt"


def array(shape: bytes, raw: bytes, dtype: bytes = DTYPE + STATE + b"b") -> bytes:
    new = global_("numpy.core.multiarray", "_reconstruct") + b"(" + global_("numpy", "ndarray") + b"(I0\ntC\x01btR"
    return b"\x80\x03" + new + b"(I1\n" + shape + dtype + b"I00\n" + b"B" + struct.pack("<I", len(raw)) + raw + b"tb."


def test_the_handmade_array_is_right_before_it_is_spoilt(tmp_path):
    assert loaded(tmp_path, array(b"(I2\nt", struct.pack("<2f", 1.5, 2))).tolist() == [1.5, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (array(b"(I3\nt", bytes(8)), "an array of shape (3,) and dtype float32 has 8 bytes"),
        (array(b"(I-1\nI-2\nt", bytes(8)), "an array has the shape (-1, -2)"),
        (array(b"(I4611686018427387905\nt", bytes(4)), "an array of shape (4611686018427387905,)"),
        (array(b"(I1\nt", bytes(8), DTYPE.replace(b"f4", b"O8") + b""), "asks for an array of Python objects"),
        (array(b"(I1\nt", bytes(8), DTYPE.replace(b"f4", b"V8")), "it holds an array of dtype 'V8'"),
        (array(b"(I1\nt", bytes(8), DTYPE.replace(b"f4", b"M8")), "it holds an array of dtype 'M8'"),
        # A dtype whose state makes it an object array: numpy would take the bytes for pointers.
        (
            array(b"(I1\nt", bytes(4), DTYPE + STATE.replace(text("<"), text("O")) + b"b"),
            "the dtype float32 has the state",
        ),
        (array(b"(I1\nt", bytes(4), DTYPE + STATE.replace(b"NNN", b"N(" + text("a") + b"tN") + b"b"), "has fields"),
        (array(b"(I1\nt", bytes(4), text("f4")), "described by something else than bytes, a dtype and a shape"),
    ],
)
def test_arrays_that_cannot_be_are_refused(tmp_path, content, message):
    assert message in refused(tmp_path, content)


@pytest.mark.parametrize(
    "state",
    [
        b"}" + text("_build") + text("x") + b"s",  # as attributes
        b"(N}" + text("_build") + text("x") + b"st",  # as slots
    ],
)
@pytest.mark.parametrize("name", [("numpy", "dtype"), ("numpy", "ndarray"), ("collections", "OrderedDict")])
def test_no_file_can_change_how_the_next_one_is_read(tmp_path, state, name):
    assert "is damaged or no pickle of arrays" in refused(tmp_path, b"\x80\x04" + global_(*name) + state + b"b.")
    values = collections.OrderedDict(a=np.arange(3))
    np.testing.assert_array_equal(loaded(tmp_path, pickle.dumps(values))["a"], np.arange(3))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_cut_files_are_named(tmp_path, protocol):
    content = pickle.dumps({"points": np.arange(300, dtype=np.float32)}, protocol)
    for length in (0, 1, 11, len(content) // 2, len(content) - 1):
        path = tmp_path / "some.pkl"
        path.write_bytes(content[:length])
        with pytest.raises(ClipError) as caught:
            load_array_pickle(path)
        assert str(caught.value).startswith(f"{path} is damaged or no pickle of arrays: ")
        assert str(caught.value).endswith(". Get it again.")


def test_no_file(tmp_path):
    with pytest.raises(ClipError, match="is missing; a pickle file is needed"):
        load_array_pickle(tmp_path / "none.pkl")
    with pytest.raises(ClipError, match="is a folder; a pickle file is needed"):
        load_array_pickle(tmp_path)
