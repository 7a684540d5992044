"""SkyReels V2 by diffusion forcing: every latent frame has its own timestep and scheduler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor

from probe.attention.wrapping import wrapped_method
from probe.families.registry import register_family
from probe.families.wan.skyreels_v2 import SkyReelsV2
from store.clips.clip import Clip
from store.errors import InvalidInputError, UnsupportedBackboneError
from store.layout import TokenLayout
from store.text import counted


@register_family
class SkyReelsForcing(SkyReelsV2):
    """A SkyReels V2 diffusion-forcing pipeline, run synchronously: all frames to be made are at the same timestep.

    From an image, the first latent frame is that of the image, at timestep 0. Runs whose frames wait for one another
    (``ar_step``, blocks of frames under a causal mask) or that are made in pieces (``overlap_history``) are rejected: a
    step would be another timestep in each frame, or come several times.
    """

    family = "SkyReels V2 DF"
    pipelines: ClassVar[tuple[str, ...]] = (
        "SkyReelsV2DiffusionForcingPipeline",
        "SkyReelsV2DiffusionForcingImageToVideoPipeline",
    )
    image_pipelines: ClassVar[tuple[str, ...]] = ("SkyReelsV2DiffusionForcingImageToVideoPipeline",)
    transformers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, pipeline: Any, *, name: str | None = None, revision: str | None = None) -> None:
        super().__init__(pipeline, name=name, revision=revision)
        block = pipeline.transformer.config.num_frame_per_block
        if block > 1:
            raise UnsupportedBackboneError(
                f"the transformer of {self.name} attends in blocks of {block} frames under a causal mask, which is not "
                "probed. Load it with num_frame_per_block=1."
            )

    def layouts_of_call(self, call: Mapping[str, Any]) -> list[TokenLayout]:
        """Return the layout of each batch element.

        Raises
        ------
        UnsupportedBackboneError
            For frames at different timesteps, clean ones apart.
        """
        pipeline = self.pipeline
        steps, rows = len(pipeline.scheduler.timesteps), getattr(pipeline, "_num_timesteps", None)
        if self.call_label is None and rows is not None and rows != steps:  # told without looking at the device
            raise UnsupportedBackboneError(
                f"this run of {self.name} calls its transformer at {rows} combinations of {steps} timesteps, so its "
                "steps have no one timestep. Run it with ar_step=0."
            )
        return super().layouts_of_call(call)

    def calls_a_step(self, *, guided: bool) -> int:
        """Return the calls of a step: copies of the scheduler are stepped, one for each frame."""
        return 1 + guided

    def check_latents_edited(self) -> None:
        """Raise: each frame has its own scheduler.

        Raises
        ------
        UnsupportedBackboneError
        """
        raise UnsupportedBackboneError(
            f"latents cannot be edited between the steps of {self.name}: it steps every frame with a scheduler of its "
            "own, out of reach. Attention and predictions can be."
        )

    def timestep_of_call(self, call: Mapping[str, Any], timestep: float) -> Tensor:
        """Return the timestep of each frame; the frames of an image stay at theirs."""
        given: Tensor = call["timestep"]
        return torch.where(_clean(call), given, torch.full_like(given, timestep))

    def call_with_latents(self, call: Mapping[str, Any], latents: Tensor) -> dict[str, Any]:
        """Return a call with other latents; the frames of an image stay as they are."""
        changed = super().call_with_latents(call, latents)
        clean = _clean(call)[:, None, :, None, None]
        changed["hidden_states"] = torch.where(clean, call["hidden_states"], changed["hidden_states"])
        return changed

    def conditioning_of(self, clip: Clip) -> dict[str, Any]:
        """Return image 0 for image-to-video."""
        chosen = super().conditioning_of(clip)
        return {name: value for name, value in chosen.items() if name != "last_image"}

    def check_run(self, arguments: Mapping[str, Any]) -> None:
        """Raise for runs in which frames wait for one another, that are made in pieces, or of nothing but the image.

        Raises
        ------
        InvalidInputError
        """
        for name, usual in (
            ("ar_step", 0),
            ("causal_block_size", None),
            ("overlap_history", None),
            ("last_image", None),
        ):
            if arguments.get(name, usual) != usual:
                raise InvalidInputError(
                    f"{name}={arguments[name]!r} makes frames at steps of their own, or further ones, which is not "
                    f"probed. Leave {name} out."
                )
        least = self.strides[0] + 1
        if self.takes_image and arguments["num_frames"] < least:
            raise InvalidInputError(
                f"{self.name} makes no clip of {counted(arguments['num_frames'], 'image')}: from an image, its first "
                f"latent frame is that image. Pass at least {least} images."
            )

    @contextmanager
    def prepared_call(self, arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Prepare one call; given latents are put where the pipeline, which cannot take them, makes its own."""
        with super().prepared_call(arguments) as call:
            self.check_run(arguments)
            given = call.pop("latents", None)
            call.setdefault("prompt", None)  # an argument without a default, though embeddings replace it

            def prepared(prepare: Any, *args: Any, **kwargs: Any) -> Any:
                latents, *rest = prepare(*args, **kwargs)
                return (latents if given is None else given.to(latents).clone(), *rest)

            with wrapped_method(self.pipeline, "prepare_latents", prepared):
                yield call


def _clean(call: Mapping[str, Any]) -> Tensor:
    """Clean frames (batch, frame) of a call in which others are not."""
    timestep: Tensor = call["timestep"]
    return (timestep == 0) & (timestep.amax(dim=1, keepdim=True) > 0)
