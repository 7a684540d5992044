"""Motion as position tables, optimised by DiTFlow for one prompt and used for another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from generators.sampling.step import Run, Step
from generators.sampling.strategy import Strategy
from probe.attention.positions import Positions
from probe.backbones.geometry import Size
from store.arguments import check_fields, checked
from store.checks import integer, shown
from store.errors import InvalidInputError


@dataclass(frozen=True, eq=False, repr=False)
class MotionEmbedding:
    """Optimised position tables of the first steps of a run, and the settings of that run.

    Parameters
    ----------
    backbone : str
        Its name.
    size : (height, width, images)
        Size of the clip.
    steps : int
        Number of steps of the whole run.
    positions : mapping from step to Positions
    details : mapping that JSON can hold
        Origin: prompt, method, the reference's digest, versions.

    Raises
    ------
    InvalidInputError
        For an impossible size or number of steps, a step beyond them, or tables that are not finite.

    Examples
    --------
    >>> import torch
    >>> from probe.attention.positions import AddedPositions
    >>> MotionEmbedding("mini", Size(40, 40, 6), 50, {0: AddedPositions(torch.zeros(6, 10, 10, 128))})
    MotionEmbedding('mini', 40 x 40 px and 6 images, 1 of 50 steps: AddedPositions(table: 6 x 10 x 10 x 128))
    """

    backbone: str
    size: Size
    steps: int
    positions: Mapping[int, Positions]
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        for name, number in zip(Size._fields, self.size, strict=True):
            integer(number, name, min_value=1)
        integer(self.steps, "steps", min_value=1)
        for step, positions in self.positions.items():
            integer(step, "the step of a table", min_value=0, max_value=self.steps - 1)
            for name, table in positions.tensors().items():
                if not isinstance(table, torch.Tensor) or not table.is_floating_point() or table.ndim != 4:
                    raise InvalidInputError(
                        f"table {name!r} of step {step} must be floats (frame, y, x, channel); got {shown(table)}."
                    )
                if not bool(torch.isfinite(table).all()):
                    raise InvalidInputError(f"table {name!r} of step {step} holds values that are not finite.")

    def __repr__(self) -> str:
        one = next(iter(self.positions.values()), None)
        tables = f"{len(self.positions)} of {self.steps} steps: {one!r}"
        return f"MotionEmbedding({self.backbone!r}, {self.size}, {tables})"

    def check(self, run: Run) -> None:
        """Raise for a run of another backbone, size or number of steps.

        Raises
        ------
        InvalidInputError
        """
        layout = run.layout
        size = Size(layout.pixel_height, layout.pixel_width, layout.images)
        made = (self.backbone.rstrip("/"), self.size, self.steps)
        if made != (run.backbone.name.rstrip("/"), size, run.steps):
            raise InvalidInputError(
                f"this motion embedding was made for {self.backbone} at {self.size} in {self.steps} steps; the run is "
                f"of {run.backbone.name} at {size} in {run.steps} steps. Generate as it was made, or optimise another."
            )


class InjectMotion(Strategy):
    """A strategy for :func:`generators.sample` that uses the motion of an embedding for a new prompt.

    Parameters
    ----------
    embedding : MotionEmbedding

    Raises
    ------
    InvalidInputError
        Before the model runs, for an embedding made for another backbone, size or number of steps.

    Notes
    -----
    Pondaven et al., CVPR 2025, section 4.3. If its method also injected keys and values, these are not part of the
    embedding.
    """

    @checked
    def __init__(self, embedding: MotionEmbedding) -> None:
        self.embedding = embedding

    def start(self, run: Run) -> None:
        """Raise for a run for which the embedding was not made."""
        self.embedding.check(run)

    def before(self, step: Step) -> None:
        """Use the tables of this step, if there are any."""
        found = self.embedding.positions.get(step.number)
        if found is not None:
            step.positions = type(found)(
                **{name: table.to(step.latents.device) for name, table in found.tensors().items()}
            )
