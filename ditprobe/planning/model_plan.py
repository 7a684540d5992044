"""The plan of a model: its layers, its tokens at a size, and the memory of what can be done with it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ditprobe.planning.memory import (
    adapter_bytes,
    capture_bytes,
    flow_bytes,
    guidance_bytes,
    heads_bytes,
    injection_bytes,
    optimising_bytes,
    recorder_bytes,
    sweep_bytes,
    tracking_bytes,
)
from probe.backbones.geometry import Size
from probe.families.published import find_card, model_cards
from probe.loading.model_facts import ModelFacts, facts_of_backbone, facts_of_card
from probe.loading.planning import plan_backbone
from probe.loading.vae_memory import decoder_bytes
from store.arguments import checked
from store.checks import height_and_width
from store.errors import BackboneNotFoundError
from store.layout import TokenLayout
from store.plan import Plan, format_bytes
from store.selection import Selection
from store.text import counted, pixels


@dataclass(frozen=True, repr=False)
class ModelPlan:
    """Needs of a model at a size, from its configuration.

    Attributes
    ----------
    facts : ModelFacts
    layout : TokenLayout of the size
    """

    facts: ModelFacts
    layout: TokenLayout

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights of all transformers; text encoders and VAE come on top."""
        return self.facts.parameters * self.facts.dtype.itemsize

    @property
    def capture_bytes(self) -> int:
        """Bytes of the largest layer's queries and keys, text included, for one step and branch."""
        return max(capture_bytes(layer, self.layout, self.facts.dtype.itemsize) for layer in self.facts.layers)

    @property
    def sweep_bytes(self) -> int:
        """Memory that a sweep adds to a run: a capture with its attention output, and the budget of the measuring."""
        return max(sweep_bytes(layer, self.layout, self.facts.dtype.itemsize) for layer in self.facts.layers)

    @property
    def tracking_bytes(self) -> int:
        """Memory that tracking a hundred points adds to a forward pass, of a chunk of the plan's size."""
        return max(tracking_bytes(layer, self.layout, self.facts.dtype.itemsize) for layer in self.facts.layers)

    @property
    def heads_bytes(self) -> int:
        """Memory that the classification of heads adds to a run."""
        return max(heads_bytes(layer, self.layout, self.facts.dtype.itemsize) for layer in self.facts.layers)

    @property
    def recorder_bytes(self) -> tuple[int, int]:
        """Memory of a recorder: on the device, and in that of the CPU."""
        return max(recorder_bytes(layer, self.layout, self.facts.dtype.itemsize) for layer in self.facts.layers)

    @property
    def flow_bytes(self) -> int:
        """Memory of the attention motion flow of one layer."""
        return max(flow_bytes(layer, self.layout, self.facts.dtype.itemsize) for layer in self.facts.layers)

    @property
    def transfer_bytes(self) -> int:
        """Memory of the flow's loss and its gradients with respect to queries and keys, as in motion transfer."""
        size = self.facts.dtype.itemsize
        return max(flow_bytes(layer, self.layout, size, backward=True) for layer in self.facts.layers)

    @property
    def guidance_bytes(self) -> int:
        """Memory that cross-attention guidance adds to a run."""
        return max(guidance_bytes(layer, self.layout, self.facts.dtype.itemsize) for layer in self.facts.layers)

    @property
    def injection_bytes(self) -> int:
        """Memory that an injection of keys and values adds to a run."""
        return max(injection_bytes(layer, self.layout, self.facts.dtype.itemsize) for layer in self.facts.layers)

    def optimising_bytes(
        self, layers: int | None = None, *, checkpointing: bool = False, positions: bool = False
    ) -> int:
        """Return the memory of a motion transfer that optimises, the weights aside.

        Parameters
        ----------
        layers : int, optional
            Number of layers that gradients are taken through; by default half of them.
        checkpointing : with gradient checkpointing
        positions : positions are optimised
        """
        count, size = (len(self.facts.layers) + 1) // 2 if layers is None else layers, self.facts.dtype.itemsize
        return max(
            optimising_bytes(layer, self.layout, size, count, checkpointing=checkpointing, positions=positions)
            for layer in self.facts.layers
        )

    def adapter_bytes(self, parameters: int) -> int:
        """Return the memory that an attached adapter with a number of parameters adds to a run."""
        return max(adapter_bytes(layer, self.layout, parameters) for layer in self.facts.layers)

    def decoding_bytes(self) -> int | None:
        """Return the memory of decoding the clip in one piece, weights aside; None if that is not known.

        It is counted by running the decoder on the meta device, which takes seconds.
        """
        if self.facts.vae is None:
            return None
        kind, config = self.facts.vae
        channels = _latent_channels(kind, config)
        size = Size(self.layout.pixel_height, self.layout.pixel_width, self.layout.images)
        shape = self.facts.latent_shape(size, channels)
        try:
            return decoder_bytes(kind, config, shape, self.facts.vae_dtype)
        except (NotImplementedError, TypeError, AttributeError):  # decodes in tiles only, or needs more than latents
            return None

    def selection(self, selection: Selection, *, steps: int | None = None, features: bool = False) -> Plan:
        """Return what a recording of a selection holds, in float16 as recordings do.

        Raises
        ------
        UnknownLayerError, InvalidInputError
        """
        run = self.facts.steps if steps is None else steps
        return selection.plan(self.facts, self.layout, run, limit_bytes=None, features=features)

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def lines(self, selections: Sequence[Selection] = ()) -> list[str]:
        """Return the plan as lines of text, with the bytes of each selection."""
        facts, layout = self.facts, self.layout
        kinds = sorted({(layer.heads, layer.channels) for layer in facts.layers})
        heads = ", ".join(f"{counted(heads, 'head')} x {channels} channels" for heads, channels in kinds)
        dtype, vae_dtype = (str(each).removeprefix("torch.") for each in (facts.dtype, facts.vae_dtype))
        cells = f"{counted(layout.frames, 'frame')} of {layout.height} x {layout.width} cells"
        each = (
            "" if facts.denoisers == 1 else f" in each of {facts.denoisers} transformers, of which one runs at a step"
        )
        whole = self.decoding_bytes()
        lines = [
            f"Plan for {facts.name}, from its configuration alone",
            f"  clip        {pixels(layout.pixel_height, layout.pixel_width)}, {counted(layout.images, 'image')}",
            f"  layers      {counted(len(facts.layers), 'layer')} of {heads}{each}",
            f"  cells       {cells}, {layout.cell_size[0]:g} x {layout.cell_size[1]:g} px each",
            f"  tokens      {layout.video_tokens + layout.text_tokens}: {layout.video_tokens} of the video, "
            f"{'at most ' * bool(layout.text_tokens)}{layout.text_tokens} of the text",
            f"  weights     {format_bytes(self.weight_bytes)} of transformers in {dtype} "
            f"({_parameters(facts.parameters)})",
            f"  capture     {format_bytes(self.capture_bytes)} of one layer, step and branch in {dtype}",
            f"  sweep       {format_bytes(self.sweep_bytes)} in addition to the run; "
            f"tracking {format_bytes(self.tracking_bytes)}, heads {format_bytes(self.heads_bytes)}",
            f"  recorder    {format_bytes(self.recorder_bytes[0])} on the device, "
            f"{format_bytes(self.recorder_bytes[1])} in the CPU's memory",
            f"  flow        {format_bytes(self.flow_bytes)}; with gradients, for a transfer, "
            f"{format_bytes(self.transfer_bytes)}",
            f"  transfer    {format_bytes(self.optimising_bytes())} by the middle layer, weights aside; "
            f"{format_bytes(self.optimising_bytes(checkpointing=True))} with gradient checkpointing",
            f"  guidance    {format_bytes(self.guidance_bytes)} in addition to the run",
            f"  decoding    {_decoding(whole, vae_dtype)}",
        ]
        for selection in selections or (Selection("all", [0]), Selection([-1], "all"), Selection("all", "all")):
            plan = self.selection(selection)
            lines.append(
                f"  recording   {format_bytes(plan.nbytes)} of {counted(len(plan.layers), 'layer')} at "
                f"{counted(len(plan.steps), 'step')}, {counted(len(plan.branches), 'branch', 'branches')}, in float16"
            )
        return [*lines, f"  source      {facts.source}"]


@checked
def plan_model(
    name_or_path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    height: int | None = None,
    width: int | None = None,
    images: int | None = None,
    **loading: Any,
) -> ModelPlan:
    """Return the plan of a model from its configuration, without its weights.

    Parameters
    ----------
    name_or_path : a saved folder, a bundled backbone, a hub id whose configuration is in the cache or can be fetched,
        or one of the published models of :func:`published_models`, for which nothing is fetched
    size : (height, width) in pixels, optional
    height, width, images : int, optional
        The model's default where not given.
    loading
        As of :func:`probe.loading.load_backbone.load_backbone`; not used for published models.

    Raises
    ------
    BackboneNotFoundError, InvalidInputError, UnsupportedBackboneError

    Examples
    --------
    >>> plan = plan_model("THUDM/CogVideoX-2b")
    >>> plan.layout.video_tokens, plan.capture_bytes
    (17550, 136519680)
    """
    facts = find_facts(name_or_path, **loading)
    asked = height_and_width(size, height, width)
    chosen = (*asked, images)
    whole = Size(*(given or default for given, default in zip(chosen, facts.size, strict=True)))
    return ModelPlan(facts, facts.layout(whole))


def find_facts(name_or_path: str | Path, **loading: Any) -> ModelFacts:
    """Return the facts of a model: of its published configuration where it is known by name, else of its files.

    Raises
    ------
    BackboneNotFoundError, InvalidInputError, UnsupportedBackboneError
    """
    card = find_card(str(name_or_path)) if isinstance(name_or_path, str) else None
    if card is not None and card.released is not None:
        return facts_of_card(card)
    try:
        return facts_of_backbone(plan_backbone(name_or_path, **loading))
    except BackboneNotFoundError as error:
        raise BackboneNotFoundError(
            f"{error} Published configurations are known of {', '.join(published_models())}."
        ) from error


def published_models() -> tuple[str, ...]:
    """Return the models whose published configuration is bundled.

    Examples
    --------
    >>> len(published_models()) >= 10
    True
    """
    return tuple(card.name for card in model_cards() if card.released is not None)


def _latent_channels(kind: type, config: Any) -> int:
    defaults = inspect.signature(kind).parameters
    for name in ("z_dim", "latent_channels"):
        if name in config:
            return int(config[name])
    return int(next(defaults[name].default for name in ("z_dim", "latent_channels") if name in defaults))


def _parameters(count: int) -> str:
    return f"{count / 1e9:.2f} billion parameters" if count >= 1e8 else f"{count / 1e6:.2f} million parameters"


def _decoding(whole: int | None, dtype: str) -> str:
    if whole is None:
        return "not known in one piece; its VAE decodes in tiles"
    return f"{format_bytes(whole)} in one piece in {dtype}; less in tiles (--vae-tiling on)"
