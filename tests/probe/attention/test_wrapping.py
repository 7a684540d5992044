"""Methods of one object that do more for a while; copies of the object are as they would have been."""

from __future__ import annotations

import copy
import inspect
from typing import Any

from probe.attention.wrapping import wrapped_method


class Counter:
    def __init__(self) -> None:
        self.total = 0

    def add(self, number: int, *, twice: bool = False) -> int:
        self.total += number * (1 + twice)
        return self.total


def test_a_deep_copy_made_meanwhile_has_methods_of_its_own() -> None:
    counter, seen = Counter(), []

    def around(add: Any, number: int, **options: Any) -> int:
        seen.append(number)
        return add(number, **options)

    with wrapped_method(counter, "add", around):
        copied = copy.deepcopy(counter)
        copied.add(5)
        counter.add(1, twice=True)
        assert list(inspect.signature(counter.add).parameters) == ["number", "twice"]
    copied.add(5)
    assert (counter.total, copied.total, seen) == (2, 10, [1])
    assert "add" not in vars(counter)
