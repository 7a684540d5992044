"""Cross-attention guidance as a diffusers guider, for pipelines that take one.

These are the modular pipelines of Wan, LTX-Video and HunyuanVideo 1.5, and ``HunyuanVideo15Pipeline``; they pass only
the transformer to a guider, so the layout of the tokens is read from each of its calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from diffusers.configuration_utils import register_to_config
from diffusers.guiders.guider_utils import BaseGuidance, GuiderOutput
from torch import Tensor, nn

from analyses.selection.layer_selection import LayerSelection
from generators.guidance.cross_attention import within_frames
from probe.attention.edit import AttentionEdit
from probe.backbones.backbone import Backbone
from probe.families import family_of_transformer
from store.arguments import check_kind
from store.checks import finite, flag
from store.errors import InvalidInputError, UnsupportedBackboneError
from store.layout import TokenLayout
from store.selection import resolve_number

_GUIDED = ("WanTransformer3DModel", "LTXVideoTransformer3DModel", "HunyuanVideo15Transformer3DModel")


class CrossAttentionGuider(BaseGuidance):
    """Classifier-free guidance and cross-attention guidance in a pipeline of diffusers that takes a guider.

    The prediction is uncond + guidance_scale (cond - uncond) + cross_attention_scale (cond - perturbed); see
    :class:`generators.guidance.cross_attention.CrossAttentionGuidance`. Set it with
    ``pipeline.update_components(guider=...)`` (modular) or ``pipeline.guider = ...``.

    Parameters
    ----------
    layers : sequence of int or LayerSelection
        Self-attention layers to perturb; negative ones count from the end.
    guidance_scale : float
        Scale of classifier-free guidance, which is on at all steps; 1 switches it off.
    cross_attention_scale : float
        0 switches it off.
    renormalise : bool
        Whether the remaining attention is rescaled to sum to 1; the published method does not.
    start, stop : float
        Fractions of the steps between which cross-attention guidance is on.
    enabled : bool
        False returns the conditional prediction unchanged.

    Raises
    ------
    InvalidInputError
        Without layers.
    UnsupportedBackboneError
        At the first step, for a transformer other than those of the pipelines named in this module.
    UnknownLayerError
        At the first step, for a layer that does not exist.

    Examples
    --------
    >>> CrossAttentionGuider([13, 17], guidance_scale=5.0).num_conditions
    3
    """

    _input_predictions: Any = ["pred_cond", "pred_uncond", "pred_cond_perturbed"]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        layers: Sequence[int] | LayerSelection,
        guidance_scale: float = 5.0,
        cross_attention_scale: float = 1.0,
        renormalise: bool = False,
        start: float = 0.0,
        stop: float = 1.0,
        enabled: bool = True,
    ) -> None:
        check_kind(layers, Sequence[int] | LayerSelection, "layers")
        for name, number in (("start", start), ("stop", stop)):
            finite(number, name, min_value=0, max_value=1)
        if start == 1:
            raise InvalidInputError("start must be below 1: guidance would never begin.")
        finite(guidance_scale, "guidance_scale")
        finite(cross_attention_scale, "cross_attention_scale")
        flag(renormalise, "renormalise")
        flag(enabled, "enabled")
        super().__init__(start, stop, enabled)
        if not len(layers):
            raise InvalidInputError("layers is empty: name at least one layer whose attention is perturbed.")
        self.layers = tuple(layers)
        if isinstance(layers, LayerSelection):
            self.register_to_config(layers=list(layers))  # what diffusers saves as JSON
        self.guidance_scale = guidance_scale
        self.cross_attention_scale = cross_attention_scale
        self.renormalise = renormalise
        self._open = ExitStack()

    # Interface of a diffusers guider ---------------------------------------------------------------------------------

    @property
    def predictions(self) -> list[str]:
        """The passes of this step, in order."""
        chosen = ["pred_cond"]
        if self._enabled and not math.isclose(self.guidance_scale, 1.0):
            chosen.append("pred_uncond")
        if self._enabled and self._within() and not math.isclose(self.cross_attention_scale, 0.0):
            chosen.append("pred_cond_perturbed")
        return chosen

    @property
    def num_conditions(self) -> int:
        """Number of passes of this step."""
        return len(self.predictions)

    @property
    def is_conditional(self) -> bool:
        """Tell whether the current pass has the prompt."""
        return self.predictions[self._count_prepared - 1] != "pred_uncond"

    def prepare_inputs(self, data: Any) -> list[Any]:
        """A batch for each pass, from its inputs by name."""
        return [self._prepare_batch(data, name == "pred_uncond", name) for name in self.predictions]

    def prepare_inputs_from_block_state(self, data: Any, input_fields: dict[str, Any]) -> list[Any]:
        """A batch for each pass, from a modular pipeline's state."""
        return [
            self._prepare_batch_from_block_state(input_fields, data, name == "pred_uncond", name)
            for name in self.predictions
        ]

    def prepare_models(self, denoiser: nn.Module) -> None:
        """Edit the perturbed pass, from its call of the transformer to its end; called before each pass."""
        self._open.close()
        self._count_prepared += 1
        if self.predictions[self._count_prepared - 1] == "pred_cond_perturbed":
            modules = _layers(denoiser, self.layers)
            before = denoiser.register_forward_pre_hook(self._edit(modules), with_kwargs=True)
            self._open.callback(before.remove)
            # also if the transformer raises, since diffusers then does not clean up
            after = denoiser.register_forward_hook(lambda *_: self._open.close(), always_call=True)
            self._open.callback(after.remove)

    def cleanup_models(self, denoiser: nn.Module) -> None:
        """Remove the edit; called after each pass."""
        self._open.close()

    def forward(
        self, pred_cond: Tensor, pred_uncond: Tensor | None = None, pred_cond_perturbed: Tensor | None = None
    ) -> GuiderOutput:
        """Guided prediction from the predictions of the passes."""
        guided = pred_cond if pred_uncond is None else pred_uncond + self.guidance_scale * (pred_cond - pred_uncond)
        if pred_cond_perturbed is not None:
            guided = guided + self.cross_attention_scale * (pred_cond - pred_cond_perturbed)
        return GuiderOutput(pred=guided, pred_cond=pred_cond, pred_uncond=pred_uncond)

    # The perturbed pass -------------------------------------------------------------------------------------------

    def _within(self) -> bool:
        if self._num_inference_steps is None:
            return True
        first, end = (int(share * self._num_inference_steps) for share in (self._start, self._stop))
        return first <= self._step < end

    def _edit(self, modules: Mapping[int, nn.Module]) -> Callable[..., None]:
        def begin(denoiser: nn.Module, args: tuple[Any, ...], call: dict[str, Any]) -> None:
            frames, height, width = _family_of(denoiser).grid_of_call(denoiser, call)
            layout = TokenLayout(
                frames, height, width, height, width, frames, spans=[range(n, n + 1) for n in range(frames)]
            )
            editors = {layer: [within_frames(self.renormalise)] for layer in modules}
            self._open.enter_context(AttentionEdit(modules, editors, layout, "last"))

        return begin


def _layers(denoiser: Any, layers: Sequence[int]) -> dict[int, nn.Module]:
    """Self-attention modules by layer."""
    found = _family_of(denoiser).find_layers(denoiser)
    chosen = sorted({resolve_number("layer", layer, len(found)) for layer in layers})
    return {layer: found[layer][1] for layer in chosen}


def _family_of(denoiser: Any) -> type[Backbone]:
    name = type(denoiser).__name__
    family = family_of_transformer(name) if name in _GUIDED else None
    if family is None:
        raise UnsupportedBackboneError(
            f"{name} cannot be guided by CrossAttentionGuider, which knows {', '.join(_GUIDED)}. "
            "Use CrossAttentionGuidance with generators.sample for CogVideoX and HunyuanVideo pipelines."
        )
    return family
