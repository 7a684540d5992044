"""Options for loading a model: one group that every verb with a model has."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ditprobe.cli.groups import OptionGroup
from ditprobe.cli.options import MODEL

if TYPE_CHECKING:
    from probe.backbones.backbone import Backbone

Device = Annotated[str, typer.Option(metavar="NAME", help="auto is a GPU if there is one.", rich_help_panel=MODEL)]
Dtype = Annotated[str, typer.Option(metavar="NAME", help="auto, float32, bfloat16 or float16.", rich_help_panel=MODEL)]
Revision = Annotated[
    str | None, typer.Option(metavar="NAME", help="Branch, tag or commit of a hub id.", rich_help_panel=MODEL)
]
LocalOnly = Annotated[bool, typer.Option("--local-files-only", help="Never ask the hub.", rich_help_panel=MODEL)]
VaeDtype = Annotated[
    str,
    typer.Option(
        "--vae-dtype",
        metavar="NAME",
        help="Data type of the VAE; auto is float32 if the model stores it so.",
        rich_help_panel=MODEL,
    ),
]
Offloading = Annotated[
    Literal["model", "sequential", "group"] | None,
    typer.Option(
        help="Keep weights in CPU memory until they run: by model part, by module, or by module with prefetch.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
DeviceMap = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="balanced: spread the parts over several GPUs.", rich_help_panel=MODEL),
]
Quantization = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="bitsandbytes-4bit, bitsandbytes-8bit or quanto-int8.", rich_help_panel=MODEL),
]
VaeTiling = Annotated[
    Literal["auto", "on", "off"],
    typer.Option(help="Encode and decode in tiles; auto does so if memory is short.", rich_help_panel=MODEL),
]
Variant = Annotated[
    str | None, typer.Option(metavar="NAME", help="Variant of the weight files, such as fp16.", rich_help_panel=MODEL)
]
FamilyName = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Family of a pipeline whose class is not known.", rich_help_panel=MODEL),
]


@dataclass(frozen=True)
class LoadingOptions(OptionGroup):
    """Options for loading a model."""

    device: Device = "auto"
    dtype: Dtype = "auto"
    vae_dtype: VaeDtype = "auto"
    offload: Offloading = None
    device_map: DeviceMap = None
    quantization: Quantization = None
    vae_tiling: VaeTiling = "auto"
    revision: Revision = None
    variant: Variant = None
    family: FamilyName = None
    local_files_only: LocalOnly = False

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of :func:`probe.loading.load_backbone.load_backbone`."""
        given: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        tiling: dict[str, str | bool] = {"auto": "auto", "on": True, "off": False}
        return {**given, "vae_tiling": tiling[self.vae_tiling]}


DEFAULTS = LoadingOptions()


def load_backbone_option(name: str, loading: LoadingOptions, *, plan: bool = False) -> Backbone:
    """Load the backbone that the options name; for a plan, without its weights."""
    if plan:
        from probe.loading.planning import plan_backbone

        return plan_backbone(name, **loading.arguments())
    from probe.loading.load_backbone import load_backbone

    return load_backbone(name, **loading.arguments())


def plan_backbone_option(name: str, loading: LoadingOptions) -> Backbone:
    """Plan a published model from its bundled configuration, any other from its own; no weights are loaded."""
    from probe.families.published import find_card

    card = find_card(name)
    if card is None or card.released is None or card.released.vae is None:
        return load_backbone_option(name, loading, plan=True)
    from probe.loading.released import plan_released

    return plan_released(name)
