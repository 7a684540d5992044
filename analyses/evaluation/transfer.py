"""Similarity of the motion of a clip to that of its reference, for the report and the demo."""

from __future__ import annotations

from analyses.metrics.clip_fidelity import clip_motion_fidelity
from analyses.scenes.object_motion import motion_error, object_motion
from analyses.trackers.optical_flow import FlowTracker
from store.clips.clip import Clip
from store.errors import InvalidInputError, MissingOpenCVError
from store.scenes.prompt import parse_prompt
from store.scenes.texture import COLOURS

FIDELITY, ERROR = "motion fidelity", "motion error"


def check_pair(reference: Clip, clip: Clip) -> None:
    """Raise for clips of different sizes or lengths.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> from store.scenes.scene import make_scene
    >>> check_pair(make_scene(1), make_scene(1, images=5))
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: the reference has 6 images of 40 x 40 px and the result 5 of 40 x 40 px (height x \
width), so they cannot be compared image by image. Cut or resize one of them.
    """
    ours, theirs = ((len(each), each.height, each.width) for each in (clip, reference))
    if ours != theirs:
        raise InvalidInputError(
            f"the reference has {theirs[0]} images of {theirs[1]} x {theirs[2]} px and the result {ours[0]} of "
            f"{ours[1]} x {ours[2]} px (height x width), so they cannot be compared image by image. Cut or resize one "
            "of them."
        )


def fit_pair(reference: Clip, clip: Clip) -> tuple[Clip, Clip]:
    """Return both clips at the size of the smaller one, where the larger one is a multiple of it.

    So a clip that was enlarged for viewing, or a reference that the model saw at a smaller size, can be compared with
    the other clip. The smaller clip keeps its pixels.

    Raises
    ------
    InvalidInputError
        For other sizes, and for different lengths.

    Examples
    --------
    >>> from store.scenes.scene import make_scene
    >>> scene = make_scene(1)
    >>> [(each.height, each.width) for each in fit_pair(scene.resized(320, 320), scene)]
    [(40, 40), (40, 40)]
    """
    small, large = sorted((reference, clip), key=lambda each: each.height * each.width)
    times, rest = divmod(large.height, small.height)
    if rest == 0 and large.width == times * small.width:
        reference, clip = (each.resized(small.height, small.width) for each in (reference, clip))
    check_pair(reference, clip)
    return reference, clip


def measure_transfer(clip: Clip, reference: Clip) -> dict[str, float]:
    """Return the similarity of the motion of a clip to that of its reference; empty if OpenCV is not installed.

    "motion fidelity" is :func:`analyses.metrics.clip_fidelity.clip_motion_fidelity` through optical flow. "motion
    error" is ``relative`` of :func:`analyses.scenes.object_motion.motion_error`, measured only if one of the prompts is
    that of a scene; NaN where no object is seen.

    Examples
    --------
    >>> from store.scenes.scene import make_scene
    >>> measure_transfer(make_scene(18), make_scene(18))
    {'motion fidelity': 1.0, 'motion error': 0.0}
    """
    try:
        found = {FIDELITY: clip_motion_fidelity(clip, reference, FlowTracker())}
        if _is_scene(clip.prompt) or _is_scene(reference.prompt):
            ours, theirs = (object_motion(each, colour=_object_colour(each.prompt)) for each in (clip, reference))
            found[ERROR] = motion_error(ours, theirs).relative
    except MissingOpenCVError:
        return {}
    return found


def _is_scene(prompt: str | None) -> bool:
    try:
        parse_prompt(prompt or "")
    except InvalidInputError:
        return False
    return True


def _object_colour(prompt: str | None) -> str | None:
    """The first colour that a prompt names, that of its first object; the prompt need not describe its motion."""
    return next((word for word in (prompt or "").lower().split() if word in COLOURS), None)
