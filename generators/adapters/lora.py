"""Low-rank additions to the projections of attention: DreamBooth in its LoRA variant, DeT's first baseline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from generators.adapters.adapter import LayerChoice, MotionAdapter
from generators.adapters.beside import projection_of
from generators.adapters.grid import TokenGrid
from probe.attention.projections import name_of_projection, projection
from probe.backbones.backbone import Backbone
from store.checks import finite, integer
from store.errors import InvalidInputError, UnsupportedBackboneError

PROJECTIONS = {"q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out"}


class LoRA(MotionAdapter):
    """``W x + alpha / rank * B A x`` in projections of attention (Hu et al., ICLR 2022), for all of their tokens.

    Where text and video share a projection, the text is changed too, as by the usual fine-tuning (peft).

    Parameters
    ----------
    backbone, layers, seed
        As of :class:`generators.adapters.adapter.MotionAdapter`.
    rank : int
    alpha : float, optional
        By default the rank, so that the factor is 1.
    projections : iterable of "q", "k", "v" and "out"
        Layers without an output projection (HunyuanVideo's single-stream blocks) have the others alone.

    Raises
    ------
    InvalidInputError, UnknownLayerError

    Notes
    -----
    A starts as peft has it (Kaiming's uniform values of a linear layer), B at zero. :func:`peft_state` gives the
    parameters under the names by which diffusers' ``load_lora_adapter`` knows them.

    Examples
    --------
    >>> from probe import load_backbone
    >>> LoRA(load_backbone("mini"), rank=4)
    LoRA('mini', 6 of 6 layers, rank=4, alpha=4.0, projections=['q', 'k', 'v', 'out']: 24,576 parameters)
    """

    kind = "lora"

    def __init__(
        self,
        backbone: Backbone,
        *,
        rank: int = 128,
        alpha: float | None = None,
        projections: Iterable[str] = tuple(PROJECTIONS),
        layers: LayerChoice = None,
        seed: int = 0,
    ) -> None:
        integer(rank, "rank", min_value=1)
        names = check_projections(projections)
        alpha = float(rank) if alpha is None else finite(alpha, "alpha", above=0)
        super().__init__(backbone, layers=layers, seed=seed, rank=rank, alpha=alpha, projections=names)

    def new_block(self, layer: int, attention: nn.Module) -> nn.Module:
        """A pair of matrices for each projection."""
        scale = self.settings["alpha"] / self.settings["rank"]
        found = projections_of(attention, self.settings["projections"])
        rank = self.settings["rank"]
        return nn.ModuleDict(
            {name: LowRank(linear.in_features, linear.out_features, rank, scale) for name, linear in found.items()}
        )

    def hook(self, attention: nn.Module, block: Any, grid: TokenGrid) -> Iterable[RemovableHandle]:
        """A forward hook for each projection."""
        for name in block:
            if name != "out":
                projection_of(attention, PROJECTIONS[name], self.kind)
        return [_add_low_rank(projection(attention, PROJECTIONS[name]), block[name]) for name in block]


def projections_of(attention: nn.Module, names: Iterable[str]) -> dict[str, Any]:
    """Return the projections of an attention module that LoRA is put beside; "out" only where there is one.

    Raises
    ------
    UnsupportedBackboneError
        For queries, keys or values that have none of their own.
    """
    found = {name: projection(attention, PROJECTIONS[name]) for name in names}
    missing = [name for name, linear in found.items() if linear is None and name != "out"]
    if missing:
        raise UnsupportedBackboneError(
            f"{type(attention).__name__} has no projections of its own for {', '.join(missing)}: they "
            "come from one together (or are called otherwise), so LoRA cannot be put beside them."
        )
    return {name: linear for name, linear in found.items() if linear is not None}


class LowRank(nn.Module):
    """Two matrices of a low rank, from (..., channel) to (..., channel)."""

    def __init__(self, inputs: int, outputs: int, rank: int, scale: float) -> None:
        super().__init__()
        self.a = nn.Linear(inputs, rank, bias=False)
        self.b = nn.Linear(rank, outputs, bias=False)
        self.scale = scale
        nn.init.kaiming_uniform_(self.a.weight, a=math.sqrt(5))
        nn.init.zeros_(self.b.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        """The product that is added."""
        found: Tensor = self.b(self.a(hidden)) * self.scale
        return found


def check_projections(projections: Iterable[str]) -> list[str]:
    """Return the names of projections as a list.

    Raises
    ------
    InvalidInputError
        For an unknown one, or none.

    Examples
    --------
    >>> check_projections(("q", "v"))
    ['q', 'v']
    """
    names = list(projections)
    unknown = [name for name in names if name not in PROJECTIONS]
    if unknown or not names:
        raise InvalidInputError(
            f"projections must be some of {', '.join(PROJECTIONS)}; got {unknown[0] if unknown else 'none'!r}."
        )
    return names


def peft_state(adapter: LoRA, backbone: Backbone) -> Mapping[str, Tensor]:
    """Return the parameters of a LoRA under peft's names, for ``transformer.load_lora_adapter(state, prefix=None)``.

    Raises
    ------
    InvalidInputError
        For an adapter of several transformers, and for an ``alpha`` other than the rank, which those names do not hold.
    """
    if len(adapter.denoisers) != 1 or adapter.settings["alpha"] != adapter.settings["rank"]:
        raise InvalidInputError(
            "only a LoRA of one transformer whose alpha is its rank has a state under peft's names."
        )
    found: dict[str, Tensor] = {}
    for layer in adapter.layers:
        path = backbone.modules[0][layer][0]
        for name, pair in adapter.denoisers[0][str(layer)].items():  # type: ignore[index]
            place = f"{path}.{name_of_projection(backbone.modules[0][layer][1], PROJECTIONS[name])}"
            found[f"{place}.lora_A.weight"] = pair.a.weight.detach().clone()
            found[f"{place}.lora_B.weight"] = pair.b.weight.detach().clone()
    return found


def _add_low_rank(linear: nn.Module, pair: LowRank) -> RemovableHandle:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        weight = pair.a.weight
        return output + pair(args[0].to(weight.device, weight.dtype)).to(output.device, output.dtype)

    return linear.register_forward_hook(hook)
