"""The grammar of scene prompts: what is written is read back, what is not of it is told in a sentence."""

from __future__ import annotations

import re
from itertools import combinations, islice

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from store import make_scene, parse_prompt
from store.errors import InvalidInputError
from store.scenes.draws import draw_prompt
from store.scenes.prompt import (
    ANY_SHAPE,
    DIRECTIONS,
    PARTS,
    SHAPES,
    TEXTURES,
    CameraWords,
    ObjectWords,
    PromptError,
    ScenePrompt,
    scene_words,
)
from store.scenes.texture import COLOURS, PATTERNS

COLOUR_LIST = "red, orange, yellow, green, cyan, blue, purple, pink, white, grey"
SHAPE_LIST = "disc, square, triangle, ring, cross, star, object"
DIRECTION_LIST = "right, down right, down, down left, left, up left, up, up right"


def drawn(count: int) -> list[ScenePrompt]:
    return [draw_prompt(np.random.default_rng(seed)) for seed in range(count)]


def test_every_prompt_that_scenes_draw_is_read_back() -> None:
    for prompt in drawn(2000):
        assert parse_prompt(str(prompt)) == prompt
        assert parse_prompt(f" {str(prompt).upper()}!\n") == prompt


def test_the_prompt_of_a_scene_is_the_one_that_it_was_drawn_from() -> None:
    for seed in range(20):
        clip = make_scene(seed, 1, 8, 8)
        assert clip.prompt == str(draw_prompt(np.random.default_rng(seed)))
        assert str(parse_prompt(clip.prompt)) == clip.prompt


def test_the_known_words_are_exactly_those_of_the_prompts() -> None:
    found = {word for prompt in drawn(2000) for word in str(prompt).split()} | {ANY_SHAPE}
    assert set(scene_words()) == found
    assert list(scene_words()) == sorted(found)
    assert {*COLOURS, *SHAPES, *TEXTURES, *PATTERNS} < found


def test_prompts_fit_into_the_text_tokens_of_the_bundled_backbones() -> None:
    longest = ScenePrompt(
        (ObjectWords("red", "disc", "up left", "striped"),) * 3, "blue", "waves", CameraWords("down right", "in")
    )
    assert max(len(str(prompt).split()) for prompt in drawn(2000)) <= len(str(longest).split()) <= 40


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "an orange disc moves left over blue stripes",
            ScenePrompt((ObjectWords("orange", "disc", "left"),), "blue", "stripes"),
        ),
        (
            "A red striped ring moves up, and a white star moves down left, over grey dots.",
            ScenePrompt(
                (ObjectWords("red", "ring", "up", "striped"), ObjectWords("white", "star", "down left")), "grey", "dots"
            ),
        ),
        (
            "a red disc moves up right over blue waves while the camera pans down and turns left",
            ScenePrompt(
                (ObjectWords("red", "disc", "up right"),), "blue", "waves", CameraWords(pan="down", turn="left")
            ),
        ),
        (
            "a red disc moves up over blue waves while the camera zooms out",
            ScenePrompt((ObjectWords("red", "disc", "up"),), "blue", "waves", CameraWords(zoom="out")),
        ),
    ],
)
def test_sentences_and_their_parts(text: str, parts: ScenePrompt) -> None:
    assert parse_prompt(text) == parts
    assert str(parts) == re.sub("[,.]", "", text).lower()


@pytest.mark.parametrize("count", range(len(PARTS) + 1))
def test_open_prompts_are_written_and_read(count: int) -> None:
    for prompt in drawn(200):
        for parts in combinations(PARTS, count):
            said = prompt.leave_open(parts)
            assert parse_prompt(str(said)) == said
            moving = prompt.camera != CameraWords()
            assert said.left_open == tuple(part for part in parts if part != "camera" or moving)
            assert len(str(said).split()) <= 40


def test_a_camera_that_stands_still_is_not_left_open() -> None:
    prompt = parse_prompt("a red disc moves left over blue stripes")
    assert prompt.leave_open(["camera"]) == prompt


def test_a_part_that_prompts_do_not_have_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"unknown part of a prompt 'colour'. Known: 'motion', 'shape'"):
        parse_prompt(WHOLE).leave_open(["colour"])


BALL = "a red disc moves left"
WHOLE = f"{BALL} over blue stripes"


@pytest.mark.parametrize(
    ("text", "message", "known"),
    [
        ("", "the prompt ends before it began; known articles: a, an.", True),
        ("...", "the prompt ends before it began; known articles: a, an.", True),
        ("dogs run", "unknown word 'dogs'; known articles: a, an.", False),
        (
            "a purpel disc moves left over blue stripes",
            f"unknown word 'purpel'; known colours: {COLOUR_LIST}. Did you mean 'purple'?",
            False,
        ),
        ("a dog runs", f"unknown word 'dog'; known colours: {COLOUR_LIST}.", False),
        ("a disc moves left", f"unexpected word 'disc' after 'a'; known colours: {COLOUR_LIST}.", True),
        (
            "a red cube moves left",
            f"unknown word 'cube'; known shapes: {SHAPE_LIST}, striped, checked, dotted, wavy.",
            False,
        ),
        (
            "a red stripd disc moves left",
            f"unknown word 'stripd'; known shapes: {SHAPE_LIST}, striped, checked, dotted, wavy. Did you mean "
            "'striped'?",
            False,
        ),
        ("a red wavy wavy disc", f"unexpected word 'wavy' after 'a red wavy'; known shapes: {SHAPE_LIST}.", True),
        ("a red disc flies left", "unknown word 'flies'; expected 'moves'.", False),
        ("a red disc moves", f"the prompt ends after 'a red disc moves'; known directions: {DIRECTION_LIST}.", True),
        (
            "a red disc moves lef",
            f"unknown word 'lef'; known directions: {DIRECTION_LIST}. Did you mean 'left'?",
            False,
        ),
        (BALL, f"the prompt ends after '{BALL}'; expected 'over'.", True),
        (f"{BALL} up", f"unexpected word 'up' after '{BALL}'; expected 'over'.", True),
        (f"{BALL} ovr blue stripes", "unknown word 'ovr'; expected 'over'. Did you mean 'over'?", False),
        (
            f"{BALL} over blue stars",
            "unknown word 'stars'; known patterns: clouds, stripes, checks, dots, waves. Did you mean 'stripes'?",
            False,
        ),
        (
            f"{BALL} over blue red",
            f"unexpected word 'red' after '{BALL} over blue'; known patterns: clouds, stripes, checks, dots, waves.",
            True,
        ),
        (
            " and ".join([BALL] * 4),
            f"unexpected word 'and' after '{' and '.join([BALL] * 3)}'; expected 'over', because a scene has at most 3 "
            "objects.",
            True,
        ),
        (f"{WHOLE} slowly", "unknown word 'slowly'; expected 'while'.", False),
        (f"{WHOLE} while a camera pans up", f"unexpected word 'a' after '{WHOLE} while'; expected 'the'.", True),
        (
            f"{WHOLE} while the camera moves up",
            f"unexpected word 'up' after '{WHOLE} while the camera moves'; expected the end of the prompt.",
            True,
        ),
        (
            f"{WHOLE} while the camera zooms left",
            f"unexpected word 'left' after '{WHOLE} while the camera zooms'; known directions of 'zooms': in, out.",
            True,
        ),
        (
            f"{WHOLE} while the camera pans up and pans down",
            f"unexpected word 'pans' after '{WHOLE} while the camera pans up and'; known camera motions: zooms, turns.",
            True,
        ),
        (
            f"{WHOLE} while the camera pans up over",
            f"unexpected word 'over' after '{WHOLE} while the camera pans up'; expected the end of the prompt.",
            True,
        ),
        (
            "a red over purpel clouds fast",
            f"unexpected word 'over' after 'a red'; known shapes: {SHAPE_LIST}, striped, checked, dotted, wavy. "
            "Unknown words: 'purpel', 'fast'.",
            False,
        ),
    ],
)
def test_what_is_not_of_the_grammar_is_told(text: str, message: str, known: bool) -> None:
    with pytest.raises(PromptError) as caught:
        parse_prompt(text)
    assert (str(caught.value), caught.value.known_words) == (message, known)
    assert isinstance(caught.value, InvalidInputError)


def silhouette(prompt: str, seed: int, *size: int) -> np.ndarray:
    """(image, y, x) bool: where a red object is, which are the pixels that change when it is green."""
    assert prompt.startswith("a red ")
    green = prompt.replace("a red ", "a green ", 1)
    red_images, green_images = (make_scene(seed, *size, prompt=words).images for words in (prompt, green))
    return (red_images != green_images).any(axis=-1)


def is_whole(mask: np.ndarray) -> bool:
    """Whether nothing touches the border of the image."""
    inner = mask[..., 1:-1, 1:-1]
    return bool(mask.any() and mask.sum() == inner.sum())


def whole_silhouettes(prompt: str, count: int, *size: int) -> list[np.ndarray]:
    found = (silhouette(prompt, seed, *size) for seed in range(300))
    whole = list(islice((masks for masks in found if is_whole(masks[[0, -1]])), count))
    assert len(whole) == count
    return whole


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_object_moves_as_the_prompt_says_whatever_the_camera_does(direction: str) -> None:
    expected = DIRECTIONS.index(direction) * np.pi / 4  # clockwise from right, y points down
    prompt = f"a red disc moves {direction} over blue clouds while the camera pans right"
    for masks in whole_silhouettes(prompt, 3, 2):
        first, last = (np.argwhere(mask).mean(axis=0) for mask in masks)
        y, x = last - first
        off = (np.arctan2(y, x) - expected + np.pi) % (2 * np.pi) - np.pi
        assert abs(off) < np.pi / 8 + 0.05
        assert 12 < np.hypot(x, y) < 23


def background(camera: str, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """(point, 2) of the background in the first and last image, from the middle."""
    prompt = f"a red disc moves left over blue clouds{camera}"
    x, y = make_scene(seed, prompt=prompt).tracks[0].astype(int).T
    behind = ~binary_dilation(silhouette(prompt, seed)[0], iterations=2)[y, x]
    tracks = make_scene(seed, prompt=prompt).tracks[:, behind] - 20.0
    return tracks[0], tracks[-1]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_background_moves_against_the_camera(direction: str) -> None:
    first, last = background(f" while the camera pans {direction}")
    x, y = (first - last).mean(axis=0)
    off = (np.arctan2(y, x) - DIRECTIONS.index(direction) * np.pi / 4 + np.pi) % (2 * np.pi) - np.pi
    assert abs(off) <= np.pi / 8
    np.testing.assert_allclose(first - last, np.broadcast_to([x, y], first.shape), atol=1e-9)


def test_the_camera_zooms_and_turns_as_the_prompt_says() -> None:
    def growth(camera: str) -> np.ndarray:
        first, last = background(f" while the camera {camera}")
        return np.hypot(*last.T) / np.hypot(*first.T)

    def turn(camera: str) -> np.ndarray:
        first, last = background(f" while the camera {camera}")
        (x, y), (to_x, to_y) = first.T, last.T
        return x * to_y - y * to_x  # positive: clockwise on the screen, where y points down

    assert (growth("zooms in") > 1.05).all()
    assert (growth("zooms out") < 0.95).all()
    # the picture turns the other way than the camera
    assert (turn("turns left") > 0).all()
    assert (turn("turns right") < 0).all()
    first, last = background("")
    np.testing.assert_array_equal(last, first)


@pytest.mark.parametrize("colour", [colour for colour in COLOURS if colour not in ("red", "green")])
def test_object_and_background_have_the_colours_of_the_prompt(colour: str) -> None:
    # all seen where the object is, which stands still in one image
    mask = silhouette("a red square moves left over blue clouds", 2, 1)[0]
    palette = np.array(list(COLOURS.values())) * 255
    for prompt, where in (
        (f"a {colour} square moves left over green clouds", mask),
        (f"a red square moves left over {colour} clouds", ~mask),
    ):
        mean = make_scene(2, 1, prompt=prompt).images[0][where].mean(axis=0)
        assert list(COLOURS)[np.linalg.norm(palette - mean, axis=1).argmin()] == colour


def test_the_shape_of_the_prompt_is_drawn() -> None:
    relative = {
        "disc": 0.9 * np.pi,
        "square": (2 * 0.85) ** 2,
        "ring": 0.8 * np.pi,
        "cross": 4 * 2 * 0.42 - 4 * 0.42**2,
        "triangle": (0.65 + 1.1) ** 2 / np.sqrt(3),
        "star": np.pi * (0.78**2 + 0.27**2 / 2),
    }  # areas of the figures in squared radii
    assert set(relative) == set(SHAPES)
    seed, size = 3, (1, 200, 200)
    masks = {shape: silhouette(f"a red {shape} moves left over blue clouds", seed, *size)[0] for shape in SHAPES}
    for shape, mask in masks.items():
        assert is_whole(mask)
        assert mask.sum() / masks["disc"].sum() == pytest.approx(relative[shape] / relative["disc"], rel=0.06), shape


def test_textures_are_those_of_the_prompt() -> None:
    """Away from the noise, which is the same, a texture changes the object and the pattern the background."""
    plain, striped = "a red square moves left over blue clouds", "a red striped square moves left over blue clouds"
    mask = silhouette(plain, 2, 1)[0]
    images = [make_scene(2, 1, prompt=prompt).images[0] for prompt in (plain, striped)]
    changed = (images[0] != images[1]).any(-1)
    assert changed[mask].mean() > 0.9
    assert not changed[~mask].any()


def test_the_seed_decides_what_the_prompt_leaves_open() -> None:
    prompt = "a red disc moves left over blue stripes"
    first, again, other = (make_scene(seed, prompt=prompt) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.images, again.images)
    assert (first.images != other.images).mean() > 0.5
    assert first.prompt == other.prompt == prompt


def test_a_scene_of_a_prompt_outside_the_grammar_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"^unknown word 'dog'; known colours: red, "):
        make_scene(0, prompt="a dog runs")
