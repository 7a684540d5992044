"""References with known motion, prompts to transfer it to, and what is measured of a transferred clip."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from analyses.metrics.clip_fidelity import clip_motion_fidelity
from analyses.scenes.object_motion import motion_error, moving_apart, object_motion
from analyses.scenes.prompt_agreement import LEAST_MOTION, RIGHT_WITHIN, PromptAgreement, prompt_agreement
from analyses.trackers.optical_flow import FlowTracker
from store import Clip, make_scene
from store.scenes.prompt import DIRECTIONS, SHAPES, ObjectWords, ScenePrompt
from store.scenes.texture import COLOURS, PATTERNS

Prompts = Literal["without a direction", "across"]

WITHOUT: Prompts = "without a direction"
METRICS = ("motion_error", "motion_fidelity", "motion_fidelity_all", "same_way", "agreement")


@dataclass(frozen=True)
class Case:
    """A reference scene of one object and two prompts of other objects over other backgrounds.

    Parameters
    ----------
    seed : int
        Of the scene and of the noise.
    prompts : what the new prompts say of motion
        Nothing, or a direction at right angles to the reference's.
    """

    seed: int
    prompts: Prompts = WITHOUT
    _words: Mapping[str, ScenePrompt] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        number = self.seed % len(DIRECTIONS)
        turn = int(rng.choice([2, 6]))
        new = DIRECTIONS[(number + turn) % len(DIRECTIONS)] if self.prompts == "across" else DIRECTIONS[number]
        colours, shapes, patterns = (
            rng.permutation(words).tolist() for words in (list(COLOURS), SHAPES, list(PATTERNS))
        )
        words = {
            name: ScenePrompt(
                (ObjectWords(colours[2 * place], shapes[place], DIRECTIONS[number] if name == "reference" else new),),
                colours[2 * place + 1],
                patterns[place],
            )
            for place, name in enumerate(("reference", "new", "other"))
        }
        object.__setattr__(self, "_words", words)

    @cached_property
    def reference(self) -> Clip:
        """The scene, with its tracks."""
        return make_scene(self.seed, prompt=str(self._words["reference"]))

    @property
    def words(self) -> ScenePrompt:
        """Words of the new prompt, with a direction even where the prompt leaves the motion open."""
        return self._words["new"]

    @property
    def new(self) -> str:
        """The prompt of the clips that are measured."""
        return self._sentence("new")

    @property
    def other(self) -> str:
        """A prompt of a third object, for which an embedding is optimised."""
        return self._sentence("other")

    def _sentence(self, name: str) -> str:
        words = self._words[name]
        said = str(words)
        return said.replace(f" moves {words.objects[0].direction}", "") if self.prompts == WITHOUT else said

    @property
    def box(self) -> np.ndarray:
        """(y, x) bool: the pixels of the box around the reference's object in image 0."""
        tracks = np.asarray(self.reference.tracks)
        start = tracks[0][moving_apart(tracks)]
        mask = np.zeros((self.reference.height, self.reference.width), bool)
        (left, top), (right, bottom) = np.floor(start.min(0)).astype(int), np.ceil(start.max(0)).astype(int)
        mask[max(top, 0) : bottom, max(left, 0) : right] = True
        return mask

    def measure(self, clip: Clip) -> dict[str, float]:
        """The :data:`METRICS` of a clip.

        ``motion_error``: relative to the reference's motion; NaN where no object is seen.
        ``motion_fidelity``: in the box of the reference's object; ``motion_fidelity_all``: in the whole image.
        ``same_way``: whether the object ends in the reference's direction, in percent (within 45 degrees;
        not where it rests or is not seen). ``agreement``: the mean over object and background of whether they have the
        prompt's colour, in percent.
        """
        words, reference = self.words, self.reference
        theirs = object_motion(reference, colour=self._words["reference"].objects[0].colour)
        ours = object_motion(clip, colour=words.objects[0].colour)
        seen = prompt_agreement(clip.images, words)
        tracker = FlowTracker()
        return {
            "motion_error": motion_error(ours, theirs).relative,
            "motion_fidelity": clip_motion_fidelity(clip, reference, tracker, mask=self.box),
            "motion_fidelity_all": clip_motion_fidelity(clip, reference, tracker),
            "same_way": 100.0 * _same_way(ours.path[-1], theirs.path[-1], LEAST_MOTION * min(clip.height, clip.width)),
            "agreement": _agreement(seen),
        }


def _same_way(motion: np.ndarray, other: np.ndarray, least: float) -> bool:
    """Tell whether a motion, as long as a direction needs, is within 45 degrees of another; False where one is NaN."""
    difference = math.degrees(math.atan2(motion[1], motion[0]) - math.atan2(other[1], other[0]))
    return bool(np.linalg.norm(motion) >= least and abs((difference + 180) % 360 - 180) < RIGHT_WITHIN)


def _agreement(seen: PromptAgreement) -> float:
    return 50.0 * (seen.objects[0].colour_right + seen.background_right)


def cases(first: int, count: int, prompts: Prompts) -> list[Case]:
    """Those of ``count`` consecutive seeds."""
    return [Case(seed, prompts) for seed in range(first, first + count)]
