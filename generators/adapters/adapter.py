"""Trainable parameters that hooks attach to a backbone while a context is open, and that leave it as it was."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from generators.adapters.grid import TokenGrid
from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from probe.execution.compiled import CompilerHold, check_hooks_are_called
from store.checks import finite
from store.errors import InvalidInputError, ProbeStateError
from store.files.digest import digest_of_json
from store.selection import Selection
from store.text import counted

LayerChoice = Iterable[int] | Literal["all"] | None
_SEEDED = threading.Lock()
"""Held while torch's own generator, which all threads share, draws initial values."""


class MotionAdapter(nn.Module, ABC):
    """Parameters in some layers of a backbone, added to what the frozen model computes.

    A new adapter adds nothing: under :meth:`attached` the model gives the same numbers to the bit. Hooks do the adding,
    so that no module of the backbone is replaced, its own parameters stay the only ones that it has, and training,
    sampling, gradient checkpointing and offloading work as without an adapter. Several adapters may be attached at
    once; each adds to what the others leave.

    Parameters
    ----------
    backbone : Backbone
        Decides the number of layers and their channels. The parameters are float32 on its device.
    layers : iterable of int or "all", optional
        Layers that get parameters; negative ones count from the end. All by default.
    size : Size, optional
        Size of the clip, for adapters whose parameters depend on it (:attr:`of_size`).
    seed : int
        Seed of the initial values.
    settings
        What else decides the parameters, JSON values; subclasses name them.

    Attributes
    ----------
    settings : dict
    layers : ascending tuple of int
    origin : dict
        Name, revision, configuration hash and layers of the backbone, for :meth:`check`.
    details : dict
        How it was trained, JSON values; kept in its file.

    Raises
    ------
    UnknownLayerError
        For a layer that the backbone does not have.
    InvalidInputError
        For settings that cannot be.
    UnsupportedBackboneError
        For a backbone whose attention is factorised.
    """

    kind: ClassVar[str]
    """Its name in files."""
    of_size: ClassVar[bool] = False
    """Tell whether the parameters depend on the size of the clip."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        layers: LayerChoice = None,
        size: Size | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        backbone.check_joint_attention("adapters")
        super().__init__()
        self.settings = settings
        self.layers = resolve_layers(backbone, layers)
        self.size = size if self.of_size else None
        self.origin = origin_of(backbone)
        self.details: dict[str, Any] = {}
        self._open = False
        start = "meta" if backbone.device.type == "meta" else "cpu"  # the same values on any device
        with _SEEDED, torch.random.fork_rng(devices=[]), torch.device(start):
            torch.default_generator.manual_seed(seed)
            self.denoisers = nn.ModuleList(
                nn.ModuleDict({str(layer): self.new_block(layer, modules[layer][1]) for layer in self.layers})
                for modules in backbone.modules
            )
        self.to(backbone.device)

    def __repr__(self) -> str:
        chosen = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        layers = f"{len(self.layers)} of {counted(self.origin['layers'], 'layer')}"
        return (
            f"{type(self).__name__}({self.origin['name']!r}, {layers}, {chosen}: {self.parameter_count:,} parameters)"
        )

    @property
    def parameter_count(self) -> int:
        """Numbers that are trained."""
        return sum(each.numel() for each in self.parameters())

    @abstractmethod
    def new_block(self, layer: int, attention: nn.Module) -> nn.Module:
        """The parameters of a layer, with initial values that add nothing."""

    @abstractmethod
    def hook(self, attention: nn.Module, block: Any, grid: TokenGrid) -> Iterable[RemovableHandle]:
        """Register the hooks with which a block adds to its layer."""

    def check(self, backbone: Backbone) -> None:
        """Raise if this adapter was made for another backbone.

        Raises
        ------
        InvalidInputError
            Says what differs: the number of layers, their heads or channels, or the configuration.
        """
        check_origin(self.kind, self.origin, backbone)

    def kept(self, layers: LayerChoice = None, keep: float | None = None) -> tuple[int, ...]:
        """The layers of this adapter that are attached.

        Parameters
        ----------
        layers : iterable of int or "all", optional
        keep : float, 0 to 1, optional
            Keep the first layers alone, this fraction of those of the backbone: all but ``round((1 - keep) * layers)``
            (DeT drops the last 65 %, which keeps 15 of 42).

        Raises
        ------
        InvalidInputError
            For both, and for a fraction outside 0 to 1.
        UnknownLayerError
            For a layer that the adapter does not have.

        Examples
        --------
        >>> from probe import load_backbone
        >>> from generators.adapters.temporal_kernel import TemporalKernel
        >>> adapter = TemporalKernel(load_backbone("mini"), width=8)
        >>> adapter.kept(keep=0.35), adapter.kept(layers=[0, -1])
        ((0, 1), (0, 5))
        """
        count = int(self.origin["layers"])
        if keep is not None:
            if layers is not None:
                raise InvalidInputError("layers and keep both say which layers are kept. Give one of them.")
            wanted = range(first_layers(count, keep))
            return tuple(layer for layer in self.layers if layer in wanted)
        if layers is None:
            return self.layers
        chosen = Selection("all", layers).resolve(count, 1, 1).layers
        missing = [layer for layer in chosen if layer not in self.layers]
        if missing:
            raise InvalidInputError(
                f"layer {missing[0]} has no parameters in this adapter, which has layers "
                f"{', '.join(map(str, self.layers))}."
            )
        return chosen

    @contextmanager
    def attached(self, backbone: Backbone, *, layers: LayerChoice = None, keep: float | None = None) -> Iterator[None]:
        """Add to the layers of a backbone while the context is open.

        Run backward passes inside it too: gradient checkpointing computes layers again there.

        Parameters
        ----------
        backbone : Backbone
            The one that it was made for, or another of the same configuration.
        layers, keep
            Which layers add, as in :meth:`kept`; by default all that have parameters.

        Raises
        ------
        InvalidInputError, UnknownLayerError
            For another backbone, as :meth:`check`; for layers, as :meth:`kept`.
        UnsupportedBackboneError
            For projections that are fused where the adapter changes one of them, and for a compiled transformer
            before torch 2.6.
        ProbeStateError
            While it is attached already.

        Examples
        --------
        >>> from probe import load_backbone
        >>> from generators.adapters.temporal_kernel import TemporalKernel
        >>> backbone = load_backbone("mini")
        >>> prompt = "a red disc moves left over blue stripes"
        >>> plain = backbone.generate(prompt, steps=1)
        >>> with TemporalKernel(backbone).attached(backbone):
        ...     (backbone.generate(prompt, steps=1).images == plain.images).all()
        np.True_
        """
        self.check(backbone)
        chosen = self.kept(layers, keep)
        if self._open:
            raise ProbeStateError(f"this {self.kind} adapter is attached already. Leave its context first.")
        with ExitStack() as stack:
            check_hooks_are_called(backbone.pipeline, "adapters")
            stack.enter_context(CompilerHold(everything=True))
            for denoiser, modules, blocks in zip(backbone.denoisers, backbone.modules, self.denoisers, strict=True):
                grid = TokenGrid(backbone)
                stack.callback(denoiser.register_forward_pre_hook(grid.note, with_kwargs=True).remove)
                for layer in chosen:
                    for handle in self.hook(modules[layer][1], blocks[str(layer)], grid):  # type: ignore[index]
                        stack.callback(handle.remove)
            self._open = True
            try:
                yield
            finally:
                self._open = False


def resolve_layers(backbone: Backbone, layers: LayerChoice) -> tuple[int, ...]:
    """Return layers of a backbone in ascending order; None is all of them.

    Raises
    ------
    UnknownLayerError
    """
    return Selection("all", "all" if layers is None else layers).resolve(len(backbone.layers), 1, 1).layers


def first_layers(layers: int, keep: float) -> int:
    """Return how many of the first layers are kept when the last ``1 - keep`` of them are dropped.

    Examples
    --------
    >>> first_layers(42, 0.35), first_layers(6, 0.35), first_layers(6, 0.5)
    (15, 2, 3)
    """
    return layers - round((1 - finite(keep, "keep", min_value=0, max_value=1)) * layers)


def origin_of(backbone: Backbone) -> dict[str, Any]:
    """Return what a file of parameters has to say of the backbone that they belong to."""
    denoisers: tuple[Any, ...] = backbone.denoisers
    configs = [
        {name: value for name, value in dict(denoiser.config).items() if not name.startswith("_")}
        for denoiser in denoisers
    ]
    first = backbone.layers[0]
    return {
        "name": backbone.name,
        "revision": backbone.revision,
        "config_hash": backbone.config_hash,
        "transformer": digest_of_json(configs)[:12],
        "family": backbone.family,
        "layers": len(backbone.layers),
        "heads": first.heads,
        "channels": first.channels,
    }


def check_origin(kind: str, made: Mapping[str, Any], backbone: Backbone) -> None:
    """Raise if an adapter of this origin was made for another backbone.

    Raises
    ------
    InvalidInputError
        Says what differs.
    """
    now = origin_of(backbone)
    if made["transformer"] == now["transformer"]:
        return
    titles = {"family": "family", "layers": "layers", "heads": "heads a layer", "channels": "channels a head"}
    differ = [
        f"{title} {now[name]} instead of {made[name]}" for name, title in titles.items() if made[name] != now[name]
    ]
    why = ", ".join(differ) or "the same layers, but another configuration of its transformer"
    raise InvalidInputError(
        f"this {kind} adapter was trained on {made['name']}, but {backbone.name} has {why}. Load the backbone that it "
        "was trained on, or train another adapter."
    )


def add_video(output: Any, addition: Tensor, rows: slice) -> Any:
    """Return an attention's output with something added to its video tokens.

    Parameters
    ----------
    output : tensor (batch, token, channel), or a tuple that begins with one
    addition : (batch, video token, channel)
    rows : where the video tokens are
    """
    first = output[0] if isinstance(output, tuple) else output
    addition = addition.to(first.device, first.dtype)
    if addition.shape[1] == first.shape[1]:
        found = first + addition
    else:
        found = torch.cat([first[:, : rows.start], first[:, rows] + addition, first[:, rows.stop :]], dim=1)
    return (found, *output[1:]) if isinstance(output, tuple) else found
