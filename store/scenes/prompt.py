"""The sentences that describe synthetic scenes: a small grammar, written and read.

::

    prompt     = object { "and" object } "over" background [ "while the camera" camera ]
    object     = ( "a" | "an" ) colour [ texture ] noun [ "moves" direction ]       one to three of them
    noun       = shape | "object"
    background = colour [ pattern ]
    camera     = "pans" direction [ "and" change ] | change | "moves"
    change     = "zooms" ( "in" | "out" ) | "turns" ( "left" | "right" )

Directions are those on the screen: an object that "moves left" is seen further left in the next image whatever the
camera does. A texture left out means clouds, a camera left out means a static one. A prompt is *open* where it
leaves something to chance: a direction or a background pattern that is not named, "object" for any shape, a camera that
"moves" somehow.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from store.arguments import check_fields, checked
from store.checks import one_of
from store.errors import DitprobeWarning, InvalidInputError
from store.scenes.texture import COLOURS, PATTERNS

SHAPES = ("disc", "square", "triangle", "ring", "cross", "star")
DIRECTIONS = ("right", "down right", "down", "down left", "left", "up left", "up", "up right")
TEXTURES = {"striped": "stripes", "checked": "checks", "dotted": "dots", "wavy": "waves"}
"""Adjectives of objects, and the pattern that each stands for."""
MOST_OBJECTS = 3

_CHANGES = {"zooms": ("in", "out"), "turns": ("left", "right")}
_GLUE = ("a", "an", "and", "over", "while", "the", "camera", "moves", "pans", "zooms", "in", "out", "turns")
ANY_SHAPE = "object"
"""The noun of a prompt that leaves the shape open."""
PARTS = ("motion", "shape", "pattern", "camera")
"""Parts that a prompt can leave open."""


def scene_words() -> tuple[str, ...]:
    """Every word of the grammar, sorted.

    Examples
    --------
    >>> len(scene_words()), scene_words()[:3]
    (43, ('a', 'an', 'and'))
    """
    directions = (word for direction in DIRECTIONS for word in direction.split())
    return tuple(sorted({*_GLUE, ANY_SHAPE, *directions, *COLOURS, *SHAPES, *TEXTURES, *PATTERNS}))


def direction_word(velocity: np.ndarray) -> str:
    """The nearest of eight direction words for a velocity (x, y), y pointing down.

    Examples
    --------
    >>> direction_word(np.array([-2.0, 0.1]))
    'left'
    """
    sector = round(math.atan2(velocity[1], velocity[0]) / (math.pi / 4)) % 8
    return DIRECTIONS[sector]


@dataclass(frozen=True)
class ObjectWords:
    """One object of a prompt; texture None is clouds, shape and direction None are left open."""

    colour: str
    shape: str | None
    direction: str | None
    texture: str | None = None

    def __str__(self) -> str:
        looks = " ".join(word for word in (self.colour, self.texture, self.shape or ANY_SHAPE) if word)
        motion = f" moves {self.direction}" if self.direction else ""
        return f"{'an' if looks[0] in 'aeiou' else 'a'} {looks}{motion}"


@dataclass(frozen=True)
class CameraWords:
    """The camera of a prompt; all None is a static camera, ``open`` one with any motion."""

    pan: str | None = None
    zoom: str | None = None
    turn: str | None = None
    open: bool = False

    def __str__(self) -> str:
        if self.open:
            return " while the camera moves"
        named = {"pans": self.pan, "zooms": self.zoom, "turns": self.turn}
        motion = " and ".join(f"{verb} {word}" for verb, word in named.items() if word)
        return f" while the camera {motion}" if motion else ""


@dataclass(frozen=True)
class ScenePrompt:
    """A prompt in parts; ``str()`` writes the sentence, :func:`parse_prompt` reads it.

    Examples
    --------
    >>> str(ScenePrompt((ObjectWords("orange", "disc", "left"),), "blue", "stripes", CameraWords(pan="up")))
    'an orange disc moves left over blue stripes while the camera pans up'
    """

    objects: tuple[ObjectWords, ...]
    background_colour: str
    background_pattern: str | None
    camera: CameraWords = CameraWords()

    def __post_init__(self) -> None:
        check_fields(self)

    def __str__(self) -> str:
        objects = " and ".join(map(str, self.objects))
        pattern = f" {self.background_pattern}" if self.background_pattern else ""
        return f"{objects} over {self.background_colour}{pattern}{self.camera}"

    @property
    def left_open(self) -> tuple[str, ...]:
        """The parts, of :data:`PARTS`, that the prompt leaves open."""
        is_open = {
            "motion": any(words.direction is None for words in self.objects),
            "shape": any(words.shape is None for words in self.objects),
            "pattern": self.background_pattern is None,
            "camera": self.camera.open,
        }
        return tuple(part for part in PARTS if is_open[part])

    def leave_open(self, parts: Iterable[str]) -> ScenePrompt:
        """The same prompt without some of :data:`PARTS`; a static camera stays static.

        Raises
        ------
        InvalidInputError
            For an unknown part.

        Examples
        --------
        >>> prompt = parse_prompt("a red disc moves left over blue stripes while the camera pans up")
        >>> str(prompt.leave_open(["motion", "camera"]))
        'a red disc over blue stripes while the camera moves'
        """
        parts = {one_of(part, PARTS, "part of a prompt") for part in parts}
        changed = {"motion": {"direction": None}, "shape": {"shape": None}}
        of_objects = {name: None for part in parts & changed.keys() for name in changed[part]}
        still = self.camera == CameraWords()
        return ScenePrompt(
            tuple(replace(words, **of_objects) for words in self.objects),  # type: ignore[arg-type]
            self.background_colour,
            None if "pattern" in parts else self.background_pattern,
            CameraWords(open=True) if "camera" in parts and not still else self.camera,
        )


class PromptError(InvalidInputError):
    """A sentence that is not of the grammar; ``known_words`` says whether at least every word of it is known."""

    def __init__(self, message: str, *, known_words: bool) -> None:
        super().__init__(message)
        self.known_words = known_words


class PromptWarning(DitprobeWarning):
    """A prompt is run although the backbone was trained on others, or left out because it cannot be read."""


class _Reader:
    """The words of a prompt, taken one by one."""

    def __init__(self, text: str) -> None:
        self.words = re.findall(r"[^\s,.;:!?]+", text.lower())
        self.place = 0

    def sees(self, phrase: str) -> bool:
        """Tell whether the next words are those of ``phrase``."""
        words = phrase.split()
        return self.words[self.place : self.place + len(words)] == words

    def choose(self, kinds: str, phrases: Iterable[str]) -> str:
        """Take the longest of ``phrases`` that comes next."""
        fitting = [phrase for phrase in phrases if self.sees(phrase)]
        if not fitting:
            raise self.error(f"known {kinds}: {', '.join(phrases)}", phrases)
        found = max(fitting, key=len)
        self.place += len(found.split())
        return found

    def take(self, phrase: str) -> None:
        """Take the words of ``phrase``, which must come next."""
        for word in phrase.split():
            if not self.sees(word):
                raise self.error(f"expected {word!r}", (word,))
            self.place += 1

    def error(self, expected: str, near: Iterable[str] = ()) -> PromptError:
        """Error of this place in the sentence."""
        unknown = [word for word in self.words if word not in scene_words()]
        known = not unknown
        before = f" after {' '.join(self.words[: self.place])!r}" if self.place else ""
        if self.place == len(self.words):
            return PromptError(f"the prompt ends{before or ' before it began'}; {expected}.", known_words=known)
        word = self.words[self.place]
        if word in scene_words():
            further = f" Unknown words: {', '.join(map(repr, unknown))}." if unknown else ""
            return PromptError(f"unexpected word {word!r}{before}; {expected}.{further}", known_words=known)
        meant = difflib.get_close_matches(word, list(near), n=1)
        hint = f" Did you mean {meant[0]!r}?" if meant else ""
        return PromptError(f"unknown word {word!r}; {expected}.{hint}", known_words=known)


@checked
def parse_prompt(text: str) -> ScenePrompt:
    """Read a prompt of the grammar above; upper case and punctuation make no difference.

    Raises
    ------
    PromptError
        With the first word that does not fit and the words that would.

    Examples
    --------
    >>> prompt = parse_prompt("A red striped disc moves up left over blue waves while the camera zooms in.")
    >>> prompt.objects[0]
    ObjectWords(colour='red', shape='disc', direction='up left', texture='striped')
    >>> parse_prompt(str(prompt)) == prompt
    True
    """
    reader = _Reader(text)
    objects = [_read_object(reader)]
    while reader.sees("and"):
        if len(objects) == MOST_OBJECTS:
            raise reader.error(f"expected 'over', because a scene has at most {MOST_OBJECTS} objects")
        reader.take("and")
        objects.append(_read_object(reader))
    reader.take("over")
    colour = reader.choose("colours", COLOURS)
    ends = reader.place == len(reader.words) or reader.sees("while")
    pattern = None if ends else reader.choose("patterns", PATTERNS)
    camera = CameraWords()
    if reader.place < len(reader.words):
        reader.take("while the camera")
        camera = _read_camera(reader)
    if reader.place < len(reader.words):
        raise reader.error("expected the end of the prompt")
    return ScenePrompt(tuple(objects), colour, pattern, camera)


def _read_object(reader: _Reader) -> ObjectWords:
    reader.choose("articles", ("a", "an"))
    colour = reader.choose("colours", COLOURS)
    texture = reader.choose("textures", TEXTURES) if any(map(reader.sees, TEXTURES)) else None
    noun = reader.choose("shapes", (*SHAPES, ANY_SHAPE) if texture else (*SHAPES, ANY_SHAPE, *TEXTURES))
    shape = None if noun == ANY_SHAPE else noun
    if reader.sees("and") or reader.sees("over"):
        return ObjectWords(colour, shape, None, texture)
    reader.take("moves")
    return ObjectWords(colour, shape, reader.choose("directions", DIRECTIONS), texture)


def _read_camera(reader: _Reader) -> CameraWords:
    if reader.sees("moves"):
        reader.take("moves")
        return CameraWords(open=True)
    pan = None
    if reader.sees("pans"):
        reader.take("pans")
        pan = reader.choose("directions", DIRECTIONS)
        if not reader.sees("and"):
            return CameraWords(pan)
        reader.take("and")
    change = reader.choose("camera motions", _CHANGES if pan else ("pans", *_CHANGES))
    word = reader.choose(f"directions of {change!r}", _CHANGES[change])
    return CameraWords(pan, zoom=word) if change == "zooms" else CameraWords(pan, turn=word)
