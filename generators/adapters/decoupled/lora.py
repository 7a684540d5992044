"""A LoRA for each group of heads, which changes only the rows of that group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from generators.adapters.adapter import LayerChoice, MotionAdapter
from generators.adapters.beside import projection_of
from generators.adapters.grid import TokenGrid
from generators.adapters.lora import PROJECTIONS, LowRank, check_projections, projections_of
from probe.attention.projections import projection
from probe.backbones.backbone import Backbone
from store.checks import finite, integer
from store.errors import InvalidInputError


class DecoupledLoRA(MotionAdapter):
    """``q[g] += alpha / rank * B_g A_g x`` for each group g of heads, and so for keys and values (Follow-Your-Motion).

    Each group has separate matrices in each projection. B has the rows of the group's heads alone, so no value that
    the projection gives to another head is changed, to the bit; of the output projection, A reads the columns of the
    group's heads alone. Norms and positions act afterwards, as ever; where a norm of queries and keys is taken over all
    heads together (Wan), it passes on the size of the change to the others.

    Parameters
    ----------
    backbone, layers, seed
        As of :class:`generators.adapters.adapter.MotionAdapter`.
    heads : mapping from the name of a group to a list of heads for each layer of the backbone
        :func:`generators.adapters.decoupled.groups.head_groups` makes one; groups that share a head both change it.
    rank : int
    alpha : float, optional
        By default the rank, so that the factor is 1.
    projections : iterable of "q", "k", "v" and "out"

    Raises
    ------
    InvalidInputError, UnknownLayerError
        Also for a head that a layer does not have, one that is named twice, and groups without any head.

    Notes
    -----
    Ma et al., "Follow-Your-Motion", 2025. The module of the released code that holds the split is not published with
    it; this is the split as the paper describes it.

    Examples
    --------
    >>> from probe import load_backbone
    >>> backbone = load_backbone("mini")
    >>> heads = {"spatial": [[0, 1]] * 6, "temporal": [[2, 3]] * 6}
    >>> adapter = DecoupledLoRA(backbone, heads=heads, rank=4)
    >>> adapter.groups, adapter.only("temporal").parameter_count * 2 == adapter.parameter_count
    (('spatial', 'temporal'), True)
    """

    kind = "decoupled-lora"

    def __init__(
        self,
        backbone: Backbone,
        *,
        heads: Mapping[str, Sequence[Sequence[int]]],
        rank: int = 16,
        alpha: float | None = None,
        projections: Iterable[str] = ("q", "k", "v"),
        layers: LayerChoice = None,
        seed: int = 0,
    ) -> None:
        integer(rank, "rank", min_value=1)
        names = check_projections(projections)
        alpha = float(rank) if alpha is None else finite(alpha, "alpha", above=0)
        self._heads_of = [layer.heads for layer in backbone.layers]
        groups = _checked_groups(heads, self._heads_of)
        super().__init__(
            backbone, layers=layers, seed=seed, heads=groups, rank=rank, alpha=alpha, projections=list(names)
        )
        if not self.parameter_count:
            raise InvalidInputError("no head of the chosen layers is in a group, so nothing can be trained.")

    def __repr__(self) -> str:
        counts = ", ".join(f"{sum(map(len, layers))} {name}" for name, layers in self.settings["heads"].items())
        return (
            f"{type(self).__name__}({self.origin['name']!r}, {counts} heads, rank={self.settings['rank']}: "
            f"{self.parameter_count:,} parameters)"
        )

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups."""
        return tuple(self.settings["heads"])

    def new_block(self, layer: int, attention: nn.Module) -> nn.Module:
        """A pair of matrices for each group and projection."""
        settings = self.settings
        scale = settings["alpha"] / settings["rank"]
        found = {}
        for group, layers in settings["heads"].items():
            pairs = {}
            for name, linear in projections_of(attention, settings["projections"] if layers[layer] else ()).items():
                channels = _channels(linear, self._heads_of[layer], of_input=name == "out")
                places = [channel for head in layers[layer] for channel in channels[head]]
                pairs[name] = _Pair(linear, settings["rank"], scale, places, of_input=name == "out")
            found[group] = nn.ModuleDict(pairs)
        return nn.ModuleDict(found)

    def hook(self, attention: nn.Module, block: Any, grid: TokenGrid) -> Iterable[RemovableHandle]:
        """A forward hook for each group and projection."""
        handles = []
        for pairs in block.values():
            for name, pair in pairs.items():
                if name != "out":
                    projection_of(attention, PROJECTIONS[name], self.kind)
                handles.append(projection(attention, PROJECTIONS[name]).register_forward_hook(pair.add))
        return handles

    def parameters_of(self, group: str) -> tuple[nn.Parameter, ...]:
        """The parameters of a group.

        Raises
        ------
        InvalidInputError
            For a group that it does not have.
        """
        self._check_group(group)
        return tuple(
            parameter
            for blocks in self.denoisers
            for block in blocks.values()  # type: ignore[operator]
            for parameter in block[group].parameters()
        )

    def only(self, *groups: str) -> DecoupledLoRA:
        """This adapter with some of its groups; parameters are shared.

        Raises
        ------
        InvalidInputError
            For a group that it does not have, or none.
        """
        for group in groups or ("",):
            self._check_group(group)
        found = object.__new__(DecoupledLoRA)
        found.__dict__.update(self.__dict__)
        found.settings = {**self.settings, "heads": {name: self.settings["heads"][name] for name in groups}}
        found._open = False
        found._modules = dict(self._modules)
        found.denoisers = nn.ModuleList(
            nn.ModuleDict(
                {layer: nn.ModuleDict({name: block[name] for name in groups}) for layer, block in blocks.items()}  # type: ignore[operator]
            )
            for blocks in self.denoisers
        )
        return found

    def _check_group(self, group: str) -> None:
        if group not in self.settings["heads"]:
            raise InvalidInputError(f"there is no group {group!r} of heads; there are {', '.join(self.groups)}.")


class _Pair(LowRank):
    """Matrices of a low rank between all channels of a projection's one side and some of the other's."""

    places: Tensor

    def __init__(self, linear: Any, rank: int, scale: float, places: list[int], *, of_input: bool) -> None:
        inputs, outputs = (len(places), linear.out_features) if of_input else (linear.in_features, len(places))
        super().__init__(inputs, outputs, rank, scale)
        self.of_input = of_input
        self.register_buffer("places", torch.tensor(places), persistent=False)

    def add(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """Add to what a projection gave; a forward hook."""
        weight = self.a.weight
        hidden = args[0].to(weight.device, weight.dtype)
        if self.of_input:
            return output + self(hidden[..., self.places]).to(output.device, output.dtype)
        return output.index_add(-1, self.places.to(output.device), self(hidden).to(output.device, output.dtype))


def _channels(linear: Any, heads: int, *, of_input: bool) -> list[range]:
    """Channels of each head on the side of the heads."""
    width = int(linear.in_features if of_input else linear.out_features) // heads
    return [range(head * width, (head + 1) * width) for head in range(heads)]


def _checked_groups(heads: Mapping[str, Sequence[Sequence[int]]], counts: Sequence[int]) -> dict[str, list[list[int]]]:
    found = {}
    for name, layers in heads.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise InvalidInputError(f"the name of a group of heads must be a plain word; got {name!r}.")
        if len(layers) != len(counts):
            raise InvalidInputError(
                f"group {name!r} lists the heads of {len(layers)} layers; the backbone has {len(counts)}. Give each "
                "layer a list, empty where it has none."
            )
        for layer, (chosen, count) in enumerate(zip(layers, counts, strict=True)):
            for head in chosen:
                integer(head, f"a head of group {name!r} in layer {layer}", min_value=0, max_value=count - 1)
            if len(set(chosen)) != len(chosen):
                raise InvalidInputError(f"group {name!r} names a head of layer {layer} twice.")
        found[name] = [[int(head) for head in chosen] for chosen in layers]
    if not any(any(layers) for layers in found.values()):
        raise InvalidInputError("heads has no group with a head, so nothing can be trained.")
    return found
