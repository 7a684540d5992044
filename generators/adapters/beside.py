"""Adapters that add to the output of attention, or to its projections, what they compute from its input."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from generators.adapters.adapter import LayerChoice, MotionAdapter, add_video
from generators.adapters.grid import TokenGrid
from probe.attention.projections import input_channels, projection
from probe.backbones.backbone import Backbone
from store.checks import one_of
from store.errors import UnsupportedBackboneError

Place = Literal["beside", "qkv", "kv"]
_PROJECTIONS = {"qkv": ("to_q", "to_k", "to_v"), "kv": ("to_k", "to_v")}


class BesideAttention(MotionAdapter):
    """Module on the input of attention whose result is added to its output: ``attention(I) + K(I)`` (DeT, eq. 2).

    ``I`` are the video tokens as the block shows them to its attention, normed and modulated. The sum is taken after
    the output projection and before the block's gate. Text tokens are left alone.

    Parameters
    ----------
    backbone, layers, seed
        As of :class:`generators.adapters.adapter.MotionAdapter`.
    place : "beside", "qkv" or "kv"
        Beside the whole attention, or beside each of its projections of queries, keys and values, with parameters of
        its own for each.
    """

    def __init__(
        self, backbone: Backbone, *, layers: LayerChoice = None, seed: int = 0, place: Place = "beside", **settings: Any
    ) -> None:
        one_of(place, ("beside", *_PROJECTIONS), "place")
        super().__init__(backbone, layers=layers, seed=seed, place=place, **settings)

    @abstractmethod
    def new_motion_block(self, channels: int) -> nn.Module:
        """From (batch, frame, y, x, channel) to the same shape; zero at first."""

    def new_block(self, layer: int, attention: nn.Module) -> nn.Module:
        """One block beside attention, or one beside each projection."""
        place = self.settings["place"]
        if place == "beside":
            return self.new_motion_block(input_channels(attention))
        names = _PROJECTIONS[place]
        for name in names:
            projection_of(attention, name, self.kind)
        return nn.ModuleDict({name: self.new_motion_block(input_channels(attention)) for name in names})

    def hook(self, attention: nn.Module, block: Any, grid: TokenGrid) -> Iterable[RemovableHandle]:
        """One forward hook for each block."""
        if self.settings["place"] == "beside":
            return [_add_after(attention, block, grid)]
        return [_add_after(projection_of(attention, name, self.kind), block[name], grid) for name in block]


def _add_after(module: nn.Module, block: nn.Module, grid: TokenGrid) -> RemovableHandle:
    """Add what a block makes of a module's input to the video tokens of its output."""

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        parameter = next(block.parameters())
        addition: Tensor = block(grid.video(hidden).to(parameter.device, parameter.dtype))
        first = output[0] if isinstance(output, tuple) else output
        return add_video(output, addition.flatten(1, 3), grid.rows(first.shape[1]))

    return module.register_forward_hook(hook, with_kwargs=True)


def projection_of(attention: Any, name: str, kind: str) -> nn.Module:
    """Return a projection of an attention module.

    Raises
    ------
    UnsupportedBackboneError
        Where projections are fused, or come from one together, so that this one is not called.
    """
    if getattr(attention, "fused_projections", False):
        raise UnsupportedBackboneError(
            f"a {kind} adapter changes {name}, but the projections of this transformer are fused. Call "
            "transformer.unfuse_qkv_projections() first."
        )
    found: nn.Module | None = projection(attention, name)
    if found is None:
        raise UnsupportedBackboneError(
            f"a {kind} adapter changes {name}, but {type(attention).__name__} has no such projection: queries, keys "
            "and values come from one together. Take one beside the attention, such as DeT."
        )
    return found
