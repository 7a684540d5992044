"""Agreement of a generated clip of a synthetic scene with its prompt, measured by plain computer vision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from analyses.scenes.pattern import background_pattern
from analyses.scenes.vision import SeenObject, SeenScene, see_scene
from store.arguments import Array, checked
from store.arrays import as_array
from store.errors import InvalidInputError
from store.scenes.prompt import DIRECTIONS, ObjectWords, ScenePrompt, parse_prompt

RIGHT_WITHIN = 45.0
"""Largest angle in degrees between a motion and its word at which the motion is right.

One direction in four is right by chance. The motions of drawn scenes lie within 22.5 degrees of their words.
"""
LEAST_MOTION = 0.05
"""Shortest motion over a clip that has a direction, relative to the image's shorter side; drawn scenes: 0.14."""


def angle_to_word(motion: tuple[float, float], word: str) -> float:
    """Degrees (0 to 180) between a motion (x, y), y pointing down, and a direction word; NaN for a NaN motion.

    Examples
    --------
    >>> angle_to_word((0.0, -3.0), "up"), round(angle_to_word((0.0, -3.0), "up right"))
    (0.0, 45)
    """
    difference = math.degrees(math.atan2(motion[1], motion[0])) - 45 * DIRECTIONS.index(word)
    return abs((difference + 180) % 360 - 180)


def _is_right(motion: tuple[float, float], word: str, least: float) -> bool:
    return math.hypot(*motion) >= least and angle_to_word(motion, word) < RIGHT_WITHIN


@dataclass(frozen=True)
class ObjectAgreement:
    """An object of the prompt and the region that was paired with it.

    Attributes
    ----------
    words : of the prompt
    colour_seen, shape_seen : words, or None where no region is left for this object
    motion : (x, y) pixels from the first to the last image, y pointing down; NaN where nothing was measured
    min_motion : pixels below which a motion counts as none
    """

    words: ObjectWords
    colour_seen: str | None
    shape_seen: str | None
    motion: tuple[float, float]
    min_motion: float

    @property
    def colour_right(self) -> bool:
        """Return whether a region of the named colour was found."""
        return self.colour_seen == self.words.colour

    @property
    def shape_right(self) -> bool | None:
        """Return whether the region has the named shape, whatever its colour; None if the prompt leaves it open."""
        return None if self.words.shape is None else self.shape_seen == self.words.shape

    @property
    def angle(self) -> float:
        """Degrees (0 to 180) from the named direction; NaN where none is named or no motion was measured."""
        return math.nan if self.words.direction is None else angle_to_word(self.motion, self.words.direction)

    @property
    def direction_right(self) -> bool | None:
        """Return whether the region moves within :data:`RIGHT_WITHIN` degrees of the named direction; not at rest.

        None where the prompt leaves the direction open.
        """
        word = self.words.direction
        return None if word is None else _is_right(self.motion, word, self.min_motion)

    @property
    def right(self) -> bool:
        """Return whether everything that the prompt names (colour, shape, direction) is right."""
        return False not in (self.colour_right, self.shape_right, self.direction_right)


@dataclass(frozen=True)
class PromptAgreement:
    """Comparison of a prompt with what was seen in a clip.

    Attributes
    ----------
    prompt : ScenePrompt
    objects : one for each object of the prompt, in its order
    background_seen : the commonest colour
    pan : (x, y) pixels that the camera moves, y pointing down; NaN where the clip has one image
    min_motion : pixels below which a motion counts as none
    pattern_seen : the pattern of the background that fits best
    """

    prompt: ScenePrompt
    objects: tuple[ObjectAgreement, ...]
    background_seen: str
    pan: tuple[float, float]
    min_motion: float
    pattern_seen: str

    @property
    def background_right(self) -> bool:
        """Return whether the background has the named colour."""
        return self.background_seen == self.prompt.background_colour

    @property
    def pattern_right(self) -> bool | None:
        """Return whether the background has the named pattern; None if the prompt leaves it open."""
        word = self.prompt.background_pattern
        return None if word is None else self.pattern_seen == word

    @property
    def pan_angle(self) -> float:
        """Degrees (0 to 180) from the pan that the prompt names; NaN where it names none or none was measured."""
        word = self.prompt.camera.pan
        return angle_to_word(self.pan, word) if word else math.nan

    @property
    def pan_right(self) -> bool | None:
        """Return whether the camera pans within :data:`RIGHT_WITHIN` degrees of the named pan; None without one."""
        word = self.prompt.camera.pan
        return _is_right(self.pan, word, self.min_motion) if word else None


@checked
def prompt_agreement(images: Array, prompt: str | ScenePrompt) -> PromptAgreement:
    """Compare a clip with a prompt.

    The contents of the clip are measured without the prompt (:func:`analyses.scenes.vision.see_scene`), except for the
    number of objects to look for. Regions are then paired with the objects of their colour, and the remaining regions,
    largest first, with the remaining objects, in the order of the prompt. So shape and direction count even if the
    colour is wrong. An object without a region is wrong in every respect.

    Parameters
    ----------
    images : (image, y, x, 3) uint8, rgb
    prompt : in the grammar of :mod:`store.scenes.prompt`

    Raises
    ------
    InvalidInputError
        For images of another shape or kind, or a prompt outside the grammar.
    MissingOpenCVError
        Where OpenCV (``pip install "ditprobe[vision]"``) is not installed.

    Examples
    --------
    >>> from store.scenes.scene import make_scene
    >>> images = make_scene(3, prompt="a red ring moves left over blue stripes").images
    >>> prompt_agreement(images, "a red ring moves left over blue stripes").objects[0].right
    True
    >>> seen = prompt_agreement(images, "a green ring moves right over white dots").objects[0]
    >>> seen.colour_seen, seen.colour_right, seen.shape_right, seen.direction_right
    ('red', False, True, False)
    """
    words = parse_prompt(prompt) if isinstance(prompt, str) else prompt
    seen = see_scene(images, len(words.objects))
    least = LEAST_MOTION * min(np.shape(images)[1:3])
    pairs = zip(words.objects, _paired(words, seen), strict=True)
    objects = tuple(_agreement(named, region, least) for named, region in pairs)
    pattern = background_pattern(as_array(images), seen.mask)
    return PromptAgreement(words, objects, seen.background, seen.pan, least, pattern)


def _paired(prompt: ScenePrompt, seen: SeenScene) -> list[SeenObject | None]:
    """For each object of the prompt the region of its colour, otherwise a region of no object's colour."""
    named = [words.colour for words in prompt.objects]
    of_colour = {region.colour: region for region in seen.objects}
    left = iter([region for region in seen.objects if region.colour not in named])
    regions: list[SeenObject | None] = []
    for place, colour in enumerate(named):
        first = colour in of_colour and colour not in named[:place]
        regions.append(of_colour[colour] if first else next(left, None))
    return regions


def _agreement(words: ObjectWords, region: SeenObject | None, least: float) -> ObjectAgreement:
    if region is None:
        return ObjectAgreement(words, None, None, (math.nan, math.nan), least)
    return ObjectAgreement(words, region.colour, region.shape, region.motion, least)


@checked
def agreement_dataset(agreements: Sequence[PromptAgreement]) -> xr.Dataset:
    """The agreement of many clips, for means and intervals over clips (:func:`analyses.statistics.bootstrap_mean`).

    Parameters
    ----------
    agreements : one for each clip

    Returns
    -------
    Dataset over ``clip``
        ``colour``, ``shape``, ``direction`` and ``right`` (all three): the fraction of the clip's objects that are
        right, 0 to 1, NaN where the prompt leaves it open for all of them; ``background`` (its colour), ``pattern`` and
        ``pan``: 0 or 1, NaN where the prompt names none; ``angle`` (degrees): mean over the objects whose motion was
        measured, NaN if there is none. The coordinate ``prompt`` holds the prompts.

    Raises
    ------
    InvalidInputError
        For an empty sequence.

    Examples
    --------
    >>> from store.scenes.scene import make_scene
    >>> clips = [make_scene(seed) for seed in (3, 4)]
    >>> agreement_dataset([prompt_agreement(clip.images, clip.prompt) for clip in clips]).background.values
    array([1., 1.])
    """
    if not agreements:
        raise InvalidInputError("there are no agreements to collect; compare at least one clip with its prompt.")
    values: dict[str, list[float]] = {
        name: [_share([getattr(each, f"{name}_right") for each in clip.objects]) for clip in agreements]
        for name in ("colour", "shape", "direction")
    }
    values["right"] = [float(np.mean([each.right for each in clip.objects])) for clip in agreements]
    values["background"] = [float(clip.background_right) for clip in agreements]
    for name in ("pattern", "pan"):
        right = [getattr(clip, f"{name}_right") for clip in agreements]
        values[name] = [math.nan if one is None else float(one) for one in right]
    dataset = xr.Dataset({name: ("clip", share, {"units": "share right"}) for name, share in values.items()})
    dataset["angle"] = ("clip", [_mean_angle(clip) for clip in agreements], {"units": "degrees"})
    return dataset.assign_coords(prompt=("clip", [str(clip.prompt) for clip in agreements]))


def _share(right: Sequence[bool | None]) -> float:
    """The fraction of named properties that are right; NaN if none is named."""
    named = [each for each in right if each is not None]
    return float(np.mean(named)) if named else math.nan


def _mean_angle(agreement: PromptAgreement) -> float:
    angles = [each.angle for each in agreement.objects if math.isfinite(each.angle)]
    return float(np.mean(angles)) if angles else math.nan
