"""Transfer methods by name, for the command line and for other packages.

A method is one module with a :class:`~generators.transfer.method.TransferMethod` and one entry here. Another package
registers its own with :func:`register_method`, or offers it in the entry-point group ``ditprobe.methods``::

    [project.entry-points."ditprobe.methods"]
    mine = "my_package:MyMethod"

after which ``ditprobe transfer --method mine`` and ``make_method("mine")`` find it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from store.checks import shown, text
from store.errors import InvalidInputError
from store.registry import Registry

if TYPE_CHECKING:
    from generators.transfer.method import TransferMethod

Factory = Callable[..., "TransferMethod"]


@dataclass(frozen=True)
class _Deferred:
    """A factory that is imported on first use, so that names are known without importing torch."""

    module: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Factory:
        """Import the factory itself."""
        found: Factory = getattr(import_module(self.module), self.name)
        return found

    def __call__(self, **options: Any) -> TransferMethod:
        return self.load()(**{**self.settings, **options})


def _check(name: str, item: object) -> None:
    if not callable(item):
        raise InvalidInputError(
            f"the transfer method {name!r} must be a TransferMethod class, or a function that returns one; got "
            f"{shown(item)}."
        )


METHODS: Registry[Factory] = Registry("transfer method", "ditprobe.methods", check=_check)
"""Factories of transfer methods by name."""

for _name, _factory in {
    "ditflow": _Deferred("generators.transfer.ditflow", "DiTFlow"),
    "ditflow-positions": _Deferred("generators.transfer.ditflow", "DiTFlow", {"optimise": "positions"}),
    "smm": _Deferred("generators.transfer.smm", "SMM"),
    "moft": _Deferred("generators.transfer.moft", "MOFT"),
    "motionclone": _Deferred("generators.transfer.motion_clone", "MotionClone"),
    "injection": _Deferred("generators.transfer.injection", "Injection"),
    "dmt": _Deferred("generators.transfer.dmt", "DMT"),
    "det": _Deferred("generators.adapters.det", "DeT"),
    "dreambooth": _Deferred("generators.adapters.det", "DreamBooth"),
    "motion-inversion": _Deferred("generators.adapters.det", "InvertedMotion"),
    "follow-your-motion": _Deferred("generators.adapters.decoupled.follow_your_motion", "FollowYourMotion"),
    "none": _Deferred("generators.transfer.method", "PlainBackbone"),
}.items():
    METHODS.register(_name, _factory)


def register_method(name: str, factory: Factory, *, replace: bool = False) -> None:
    """Register a transfer method under a name.

    Parameters
    ----------
    name : str
        As in ``ditprobe transfer --method NAME``.
    factory : callable
        A :class:`~generators.transfer.method.TransferMethod` class, or a function that returns one. Its keyword
        arguments are the method's options.
    replace : bool
        Whether it may replace a method of the same name.

    Raises
    ------
    InvalidInputError
        For an empty name, a name that is taken, and a factory that cannot be called.

    Examples
    --------
    >>> from functools import partial
    >>> from generators.transfer.ditflow import DiTFlow
    >>> register_method("ditflow-short", partial(DiTFlow, fraction=0.1))
    >>> make_method("ditflow-short").fraction
    0.1
    >>> METHODS.unregister("ditflow-short")
    """
    METHODS.register(name, factory, replace=replace)


def make_method(name: str, **options: Any) -> TransferMethod:
    """Return a transfer method by name.

    Parameters
    ----------
    name : str
    **options
        Arguments of the method.

    Raises
    ------
    InvalidInputError
        For an unknown name (the message lists the known ones), and an option that the method does not take.

    Examples
    --------
    >>> make_method("smm", fraction=0.4).fraction
    0.4
    >>> make_method("injection", iterations=3)
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: the transfer method 'injection' takes no iterations. Its options: layer, fraction.
    """
    known = method_options(name)
    for option in options:
        if known is not None and option not in known:
            listed = f"Its options: {', '.join(known)}." if known else "It has no options."
            raise InvalidInputError(f"the transfer method {name!r} takes no {option}. {listed}")
    return METHODS[name](**options)


def method_options(name: str) -> tuple[str, ...] | None:
    """Return the options of a method, without those fixed by its name; None if it accepts any.

    Examples
    --------
    >>> method_options("injection"), "optimise" in method_options("ditflow-positions")
    (('layer', 'fraction'), False)
    """
    factory = METHODS[text(name, "name")]
    fixed = factory.settings if isinstance(factory, _Deferred) else {}
    parameters = inspect.signature(factory.load() if isinstance(factory, _Deferred) else factory).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return None
    return tuple(each for each in parameters if each not in fixed)
