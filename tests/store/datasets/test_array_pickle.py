"""Pickles of arrays come back as they were; nothing else that a pickle asks for is done."""

from __future__ import annotations

import collections
import os
import pickle
import re
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.datasets.array_pickle import load_array_pickle
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
    "a class of our own": (
        global_("store.datasets.array_pickle", "_Array") + b".",
        "store.datasets.array_pickle._Array",
    ),
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
        (array(b"(I1\nt", bytes(4), text("f4")), "described by something other than bytes, a dtype and a shape"),
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


NDARRAY = text("numpy") + text("ndarray") + b"\x93"
SIZE = 6000


def with_bytearray(then: bytes) -> bytes:
    """A bytearray (value 0), an array over it (value 1), what is done to either, and the array as the result."""
    raw = b"\x96" + struct.pack("<Q", SIZE) + bytes(SIZE) + b"\x94"
    made = NDARRAY + b"(" + b"(M" + struct.pack("<H", SIZE) + b"t" + text("|u1") + b"h\x00tR\x94"
    return b"\x80\x05" + raw + b"0" + made + b"0" + then + b"h\x01."


GROW = b"h\x00(" + b"K\x07" * 60_000 + b"e0"
USE_AFTER_FREE = {
    "the bytearray grows, and the array reads what lay there": GROW,
    "an element of the array is written": b"h\x01K\x05K\x41s0",
    "the bytearray grows, and the array writes what lies there now": GROW + b"h\x01K\x05K\x41s0",
}


@pytest.mark.parametrize("attack", USE_AFTER_FREE)
def test_no_file_can_change_memory_that_an_array_shows(tmp_path, attack):
    assert loaded(tmp_path, with_bytearray(b"")).tolist() == [0] * SIZE
    assert re.search("in place|read-only", refused(tmp_path, with_bytearray(USE_AFTER_FREE[attack])))


@pytest.mark.parametrize("attack", USE_AFTER_FREE)
def test_arrays_hold_their_memory_also_where_the_instructions_were_not_looked_at(tmp_path, attack, monkeypatch):
    monkeypatch.setattr("store.datasets.array_pickle.scan_pickle", lambda content, check_name: None)
    assert "is damaged or no pickle of arrays" in refused(tmp_path, with_bytearray(USE_AFTER_FREE[attack]))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("length", [3, 5000])
def test_arrays_are_read_only(tmp_path, protocol, length):
    values = np.arange(length, dtype="<f4")
    for each in loaded(tmp_path, pickle.dumps([values, values[:0], values.copy()], protocol)):
        assert not each.flags.writeable


TWICE = b"2\x86"  # a tuple of the same value twice: 100 of them have 2^100 values in 200 bytes
LAUGHS, SOME_LAUGHS = b")" + 100 * TWICE, b")" + 20 * TWICE
NAMED = text("numpy") + text("dtype") + b"\x93"


def keyed(key: bytes) -> bytes:
    return b"\x80\x04}" + key + b"Ns."


TOO_MUCH = {
    "a million nested tuples as a key": (keyed(b")" + b"\x85" * 1_000_000), "nested more than 50 deep"),
    "a million nested lists": (b"\x80\x04" + b"]" * 1_000_000 + b"a" * 999_999 + b".", "more than 100000 values wait"),
    "laughs as a key": (keyed(LAUGHS), "holds more than 10000000 others"),
    "wide laughs": (
        b"\x80\x04N\x94" + b"".join(b"(" + 99 * (b"h" + bytes([n])) + b"t\x94" for n in range(9)) + b".",
        "10000000",
    ),
    "laughs as a dtype": (b"\x80\x04" + NAMED + SOME_LAUGHS + b"\x85R.", "dtype is not named"),
    "laughs as a shape": (
        b"\x80\x04" + NDARRAY + SOME_LAUGHS + text("f4") + b"C\x04aaaa" + b"\x87R.",
        "a shape that is not a few whole numbers",
    ),
    "laughs as an outside object": (b"\x80\x04" + SOME_LAUGHS + b"Q.", "an outside object"),
    "a value number 2^26": (b"\x80\x04Nr\x00\x00\x00\x04.", "numbers its values up to 67108864"),
    "a frame of a terabyte": (b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.", "should have 1099511627776 bytes"),
    "a text of a terabyte": (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"N.", "1099511627776"),
    "a bytearray of a terabyte": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"N.", "1099511627776"),
    "two million instructions": (b"\x80\x04" + b"N0" * 1_000_000 + b"N.", "more than 2000 instructions"),
    "keys that collide": (
        b"\x80\x04}("
        + b"".join(b"\x8a\x0a" + (n * (2**61 - 1)).to_bytes(10, "little") + b"N" for n in range(3000))
        + b"u.",
        "are not texts",
    ),
    "a list that holds itself": (b"\x80\x04]2a.", "a value holds itself"),
    "a tuple as a key": (keyed(b")"), "the key of a dict is a tuple"),
    "a set": (b"\x80\x04\x8f.", "it holds a set"),
    "a shape of huge numbers": (
        b"\x80\x04"
        + NDARRAY
        + b"("
        + 20 * (b"\x8b" + struct.pack("<i", 5000) + b"\x01" * 5000)
        + b"t"
        + text("f4")
        + b"C\x04aaaa"
        + b"\x87R.",
        "a shape that no array can have",
    ),
    "an extension": (b"\x80\x04\x82\x01.", "what lies outside of the file"),
    "a mark as a value": (b"\x80\x04(\x94.", "a value is missing"),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_small_files_neither_hang_nor_take_memory_nor_crash(tmp_path, name, monkeypatch):
    content, message = TOO_MUCH[name]
    if "instructions" in name:
        monkeypatch.setattr("store.datasets.pickle_scan._MOST_INSTRUCTIONS", 2000)
    began = time.perf_counter()
    assert re.search(message, refused(tmp_path, content))
    assert time.perf_counter() - began < 5


def test_what_a_file_says_is_shortened_and_printable(tmp_path):
    named = b"\x80\x04" + text("a" * 100_000) + text("\x1b[2J") + b"\x93."
    message = refused(tmp_path, named)
    assert len(message) < 600
    assert message.isprintable()


def test_values_that_several_others_share_are_read(tmp_path):
    one = {"points": np.arange(3), "names": ("a", "b")}
    back = loaded(tmp_path, pickle.dumps({f"clip {n}": [one, one] for n in range(40)}))
    assert back["clip 39"][1]["points"].tolist() == [0, 1, 2]
