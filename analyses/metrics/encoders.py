"""CLIP and DINO from transformers, which turn images and text into features of unit length."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from store.arguments import checked
from store.checks import integer
from store.errors import BackboneNotFoundError, InvalidInputError

CLIP = "openai/clip-vit-base-patch32"
"""CLIP model with which DiTFlow and DeT measure edit fidelity."""
DINO = "facebook/dino-vitb16"
"""DINO model with which the released code of DeT measures temporal consistency."""
_WITH_CLASS_TOKEN = ("vit", "dinov2", "dinov2_with_registers", "dinov3_vit")


@dataclass(frozen=True, eq=False, repr=False)
class ImageEncoder:
    """A vision transformer such as DINO. :func:`load_image_encoder` makes one.

    Attributes
    ----------
    name : what it was loaded from
    model, processor : of transformers
    """

    name: str
    model: Any
    processor: Any

    @property
    def device(self) -> torch.device:
        """Return the device of the model."""
        return next(self.model.parameters()).device

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, on {self.device})"

    def images(self, images: np.ndarray, *, batch: int = 32) -> torch.Tensor:
        """(image, channel) float32 of unit length on the CPU, for uint8 (image, y, x, 3).

        Each image is only resized, cropped and normalised by the model's own processor.
        """
        integer(batch, "batch", min_value=1)
        starts = range(0, len(images), batch)
        features = [self._features(self._pixels(images[start : start + batch])) for start in starts]
        return torch.nn.functional.normalize(torch.cat(features).float().cpu(), dim=-1)

    def _pixels(self, images: np.ndarray) -> torch.Tensor:
        pictures = [Image.fromarray(image) for image in images]
        pixels: torch.Tensor = self.processor(images=pictures, return_tensors="pt")["pixel_values"]
        return pixels.to(self.device)

    @torch.inference_mode()
    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        """The class token after the last layer norm."""
        features: torch.Tensor = self.model(pixel_values=pixels).last_hidden_state[:, 0]
        return features


@dataclass(frozen=True, eq=False, repr=False)
class ClipEncoder(ImageEncoder):
    """CLIP, whose image and text features are comparable. :func:`load_clip_model` makes one.

    Attributes
    ----------
    tokenizer : of transformers
    """

    tokenizer: Any

    @torch.inference_mode()
    def text(self, prompt: str) -> torch.Tensor:
        """(channel,) float32 of unit length on the CPU. Text too long for the model is cut off, with a warning."""
        most = self.model.config.text_config.max_position_embeddings
        length = len(self.tokenizer(prompt)["input_ids"])
        if length > most:
            warnings.warn(
                f"the prompt has {length} tokens and {self.name} reads {most}: its end is not compared.", stacklevel=2
            )
        tokens = self.tokenizer([prompt], return_tensors="pt", truncation=True, max_length=most).to(self.device)
        found = self.model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        features = self.model.text_projection(found.pooler_output)[0].float().cpu()
        return torch.nn.functional.normalize(features, dim=-1)

    @torch.inference_mode()
    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.model.visual_projection(
            self.model.vision_model(pixel_values=pixels).pooler_output
        )
        return features


@checked
def load_clip_model(
    name: str | Path = CLIP,
    *,
    device: str | torch.device = "auto",
    revision: str | None = None,
    local_files_only: bool = False,
) -> ClipEncoder:
    """CLIP with its processor and tokenizer, in float32.

    Parameters
    ----------
    name : a hub id, or a folder that ``save_pretrained`` of model, image processor and tokenizer wrote
    device : "auto" is the GPU if there is one
    revision : branch, tag or commit of a hub id
    local_files_only : use only files downloaded before, without asking the hub

    Raises
    ------
    BackboneNotFoundError
        When the model is not found; the message says how to get it.
    InvalidInputError
        For a model of another kind, missing weights, or a device that cannot be used.

    Examples
    --------
    >>> encoder = load_clip_model("openai/clip-vit-large-patch14", local_files_only=True)  # doctest: +SKIP
    """
    from transformers import AutoTokenizer, CLIPModel

    with _explained("CLIP", name):
        source = _Source(name, "CLIP", ("clip",), {"revision": revision, "local_files_only": local_files_only})
        model = source.model(CLIPModel, device)
        tokenizer = AutoTokenizer.from_pretrained(name, **source.options)
        if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers 5 creates one if there is none
            raise OSError("it has no tokenizer")
        return ClipEncoder(str(name), model, source.processor(), tokenizer)


load_clip_encoder = load_clip_model
"""The former name of :func:`load_clip_model`."""


@checked
def load_image_encoder(
    name: str | Path = DINO,
    *,
    device: str | torch.device = "auto",
    revision: str | None = None,
    local_files_only: bool = False,
) -> ImageEncoder:
    """DINO, DINOv2 or DINOv3 (a vision transformer with a class token) with its processor, in float32.

    Parameters and errors are those of :func:`load_clip_model`; a folder needs no tokenizer.

    Examples
    --------
    >>> encoder = load_image_encoder("facebook/dinov2-base", device="cuda")  # doctest: +SKIP
    """
    from transformers import AutoModel

    with _explained("DINO", name):
        options = {"revision": revision, "local_files_only": local_files_only}
        source = _Source(name, "DINO", _WITH_CLASS_TOKEN, options)
        # the published DINO has no pooling layer; transformers would initialise one at random
        more = {"add_pooling_layer": False} if source.kind == "vit" else {}
        return ImageEncoder(str(name), source.model(AutoModel, device, **more), source.processor())


class _Source:
    """Source from which the parts of a model are loaded."""

    def __init__(self, name: str | Path, what: str, kinds: tuple[str, ...], options: dict[str, Any]) -> None:
        from huggingface_hub import hf_hub_download
        from transformers import AutoConfig

        self.name, self.options = name, options
        if isinstance(name, Path) and not name.is_dir():
            raise OSError(f"there is no folder {name}")
        if not Path(name).is_dir():
            # without a network this fails once; transformers would ask for each file in turn, for minutes
            hf_hub_download(str(name), "config.json", **options)
        self.kind = AutoConfig.from_pretrained(name, **options).model_type
        if self.kind not in kinds:
            raise InvalidInputError(
                f"{name} is a model of type {self.kind!r}; {what} here is one of: {', '.join(kinds)}."
            )

    def model(self, kind: Any, device: str | torch.device, **more: Any) -> Any:
        target = _device(device)
        model, info = kind.from_pretrained(self.name, output_loading_info=True, **self.options, **more)
        missing = sorted(info["missing_keys"])
        if missing:
            raise InvalidInputError(
                f"{self.name} lacks {len(missing)} of its weights, first {missing[0]}; they would be initialised at "
                "random. Save or download the model again."
            )
        return model.float().eval().to(target)

    def processor(self) -> Any:
        from transformers import AutoImageProcessor

        return AutoImageProcessor.from_pretrained(self.name, **self.options)


@contextmanager
def _explained(what: str, name: str | Path) -> Iterator[None]:
    """Say what to do if a model is missing, and silence transformers about what is handled here."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    except InvalidInputError:
        raise
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
        raise BackboneNotFoundError(
            f"the {what} model {str(name)!r} could not be loaded: {reason}. Pass the folder of a copy that was saved "
            f"with save_pretrained, or a hub id such as {CLIP if what == 'CLIP' else DINO}, which is downloaded once "
            "where there is a network."
        ) from error
    finally:
        logging.set_verbosity(verbosity)


def _device(device: str | torch.device) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (AssertionError, RuntimeError, TypeError) as error:  # the exception that torch raises depends on the device
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise InvalidInputError(f"device {str(device)!r} cannot be used: {reason}.") from error
