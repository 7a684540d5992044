"""Registry of families: those of this library, and those that others register or install.

A distribution offers a family through an entry point of the group ``ditprobe.families``, named like the family:

.. code-block:: toml

    [project.entry-points."ditprobe.families"]
    MyVideo = "my_package.family:MyVideo"
"""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

from probe.backbones.backbone import Backbone
from store.checks import shown
from store.errors import InvalidInputError
from store.registry import Registry

Kind = TypeVar("Kind", bound=type[Backbone])
GROUP = "ditprobe.families"
_STATED = ("family", "pipelines", "transformers", "attention_paths", "guidance", "text_position")


def _check_family(name: str, family: object) -> None:
    """Raise for what is not a complete family of this name."""
    if not isinstance(family, type) or not issubclass(family, Backbone):
        raise InvalidInputError(f"a family is a subclass of probe.Backbone; got {shown(family)}.")
    missing = [each for each in _STATED if not hasattr(family, each)]
    if missing:
        raise InvalidInputError(f"{family.__name__} does not state {', '.join(missing)}. Set them on the class.")
    if inspect.isabstract(family):
        left = ", ".join(sorted(family.__abstractmethods__))
        raise InvalidInputError(f"{family.__name__} does not define {left}. Define them.")
    if name != family.family:
        raise InvalidInputError(f"the family {family.family!r} cannot be registered as {name!r}: use its own name.")


REGISTRY: Registry[type[Backbone]] = Registry("family", GROUP, check=_check_family)


def register_family(family: Kind, *, replace: bool = False) -> Kind:
    """Register a family, so that its pipelines load by name, from a folder and as objects; also a class decorator.

    Parameters
    ----------
    family : subclass of Backbone
        States the members of :class:`probe.backbones.family.Family` that have no default, and overrides what differs.
    replace : bool
        Whether it takes the place of a family of the same name.

    Returns
    -------
    The family itself.

    Raises
    ------
    InvalidInputError
        For a class that is not a complete family, or a name that is taken.

    Examples
    --------
    >>> from probe.families import family_of, register_family
    >>> from probe.families.registry import REGISTRY
    >>> from probe.families.wan import Wan
    >>> class Mine(Wan):
    ...     family = "Mine"
    ...     pipelines = ("MyPipeline",)
    >>> register_family(Mine).family
    'Mine'
    >>> class MyPipeline: ...
    >>> family_of(MyPipeline()).__name__
    'Mine'
    >>> REGISTRY.unregister("Mine")
    """
    return REGISTRY.register(getattr(family, "family", "?"), family, replace=replace)  # type: ignore[return-value]


def families() -> tuple[type[Backbone], ...]:
    """Return all families, ours first.

    Examples
    --------
    >>> from probe.families import families
    >>> "CogVideoX" in [family.family for family in families()]
    True
    """
    return tuple(REGISTRY.values())


def family_of(pipeline: Any) -> type[Backbone] | None:
    """Return the family whose pipelines this is one of, or None.

    Examples
    --------
    >>> family_of(object()) is None
    True
    """
    for kind in type(pipeline).__mro__:  # of a derived class, the family that knows it best
        for family in families():
            if kind.__name__ in family.pipelines:
                return family
    return None


def family_of_transformer(kind: str | None) -> type[Backbone] | None:
    """Return the family that has a class of transformers, or None.

    Examples
    --------
    >>> from probe.families import family_of_transformer
    >>> family_of_transformer("WanTransformer3DModel").family
    'Wan'
    """
    return next((family for family in families() if kind in family.transformers), None)
