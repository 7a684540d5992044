"""Self-attention layers of a transformer, and the modules at a path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class LayerInfo:
    """A self-attention layer: its number in execution order, module path, heads and channels per head."""

    index: int
    name: str
    heads: int
    channels: int


def modules_at(root: nn.Module, path: str) -> Sequence[tuple[str, nn.Module]]:
    """Return the modules at a path such as ``blocks.*.attn1`` by name, in the order of the blocks."""
    container, _, leaf = path.partition(".*.")
    blocks: Any = root
    for name in container.split("."):
        blocks = getattr(blocks, name, ())
    found = [(f"{container}.{i}.{leaf}", getattr(block, leaf, None)) for i, block in enumerate(blocks)]
    return [(name, module) for name, module in found if isinstance(module, nn.Module)]
