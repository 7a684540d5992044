"""Options of a run that generates a clip: those of ``generate``, ``guide`` and ``transfer``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ditprobe.cli import options, parsing
from ditprobe.cli.groups import OptionGroup

if TYPE_CHECKING:
    from probe.backbones.backbone import Backbone


@dataclass(frozen=True)
class GenerationOptions(OptionGroup):
    """Options for generating and enlarging a clip."""

    seed: options.Seed = 0
    steps: options.Steps = 50
    guidance_scale: options.GuidanceScale = None
    negative_prompt: options.NegativePrompt = None
    size: options.SizeText = None
    images: options.Images = None
    height: options.Height = None
    width: options.Width = None
    pixel_scale: options.PixelScale = 1

    def arguments(self, backbone: str) -> dict[str, Any]:
        """Return the keyword arguments of :class:`probe.backbones.arguments.PipelineArguments`, without the seed.

        Parameters
        ----------
        backbone : name, for a check of the size without loading the model

        Raises
        ------
        InvalidInputError
            For a size that is not HEIGHTxWIDTH, is given twice, or that a bundled backbone does not take.

        Examples
        --------
        >>> GenerationOptions(steps=10, size="40x40").arguments("mini")["height"]
        40
        """
        size = parsing.pixel_size(self.size)
        options.check_size(size, backbone)
        height, width = parsing.height_and_width(size, self.height, self.width)
        run: dict[str, Any] = {"steps": self.steps, "height": height, "width": width, "images": self.images}
        return {**run, "guidance_scale": self.guidance_scale, "negative_prompt": self.negative_prompt}


GENERATION = GenerationOptions()


def describe_run(model: Backbone, arguments: dict[str, Any]) -> str:
    """Return the steps and the guidance of a run in words.

    Examples
    --------
    >>> from probe import load_backbone
    >>> mini = load_backbone("mini")
    >>> describe_run(mini, mini.arguments("a red disc moves left over blue stripes", steps=10))
    '10 steps with guidance 4'
    """
    return f"{arguments['num_inference_steps']} steps with guidance {model.guidance_of(arguments):g}"
