"""Transfer methods by name: ours, registered ones, and what is rejected."""

from __future__ import annotations

import subprocess
import sys

import pytest

from generators.transfer.ditflow import DiTFlow
from generators.transfer.method import PlainBackbone, TransferMethod
from generators.transfer.methods import METHODS, make_method, method_options, register_method
from generators.transfer.moft import MOFT
from store.errors import InvalidInputError


def test_every_name_makes_a_method() -> None:
    assert all(isinstance(make_method(name), TransferMethod) for name in METHODS)
    assert make_method("ditflow") == DiTFlow()
    assert make_method("ditflow-positions", layers=(1,)) == DiTFlow(optimise="positions", layers=(1,))
    assert make_method("none") == PlainBackbone()
    assert make_method("moft", channels=0.1) == MOFT(channels=0.1)


def test_a_registered_method_is_made_with_its_options() -> None:
    def mine(strength: float = 1.0) -> TransferMethod:
        return DiTFlow(temperature=strength)

    register_method("mine", mine)
    try:
        assert method_options("mine") == ("strength",)
        assert make_method("mine", strength=3.0) == DiTFlow(temperature=3.0)
        with pytest.raises(InvalidInputError, match=r"'mine' takes no layers\. Its options: strength\.$"):
            make_method("mine", layers=(1,))
        with pytest.raises(InvalidInputError, match="named 'mine' is registered already"):
            register_method("mine", MOFT)
    finally:
        METHODS.unregister("mine")
    with pytest.raises(InvalidInputError, match="unknown transfer method 'mine'"):
        make_method("mine")


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="must be a TransferMethod class, or a function that returns one"):
        register_method("mine", DiTFlow())  # type: ignore[arg-type]
    assert "mine" not in METHODS


def test_names_are_known_without_importing_torch() -> None:
    code = (
        "import sys\nfrom generators.transfer.methods import METHODS\nprint(len(METHODS) > 3, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True False\n"
