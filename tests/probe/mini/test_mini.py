"""The bundled backbones: loading, saving, their codec and text side, and which prompts they take."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from diffusers import CogVideoXDPMScheduler, CogVideoXPipeline, DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from huggingface_hub.utils import are_progress_bars_disabled
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from analyses.layers.sweep import sweep
from probe import ForwardPass, load_backbone, run_clip, run_prompt
from probe.backbones.backbone import Backbone
from probe.families import CogVideoX
from probe.loading.sources import EARLIER_MINIS, MINIS
from probe.mini import BUNDLED, MiniConfig, load_mini, new_pipeline, save_mini
from probe.mini.codec import PixelCodec
from probe.mini.family import GUIDANCE_SCALE, Mini
from probe.mini.text import NOTHING, UNKNOWN, SceneTokenizer, new_text_encoder, new_tokenizer
from probe.recording.record import record
from store import Clip, Selection, make_scene, open_recording
from store.errors import BackboneNotFoundError, InvalidInputError
from store.scenes.prompt import ANY_SHAPE, DIRECTIONS, SHAPES, PromptError, PromptWarning, scene_words

SMALL = MiniConfig(images=3, height=16, width=24, layers=1, heads=2, channels=16)
PROMPT = "a red disc moves left over blue stripes"
DATA = Path(os.environ.get("DITPROBE_DATA", Path(__file__).parents[4] / "shared" / "data"))


@pytest.fixture(scope="module", params=sorted(MINIS))
def mini(request: pytest.FixtureRequest) -> Backbone:
    return load_backbone(request.param, device="cpu")


@pytest.fixture
def small() -> Backbone:
    return load_backbone(small_pipeline())


def small_pipeline(**changed: Any) -> Any:
    torch.manual_seed(1)
    pipeline = new_pipeline(MiniConfig(**{**vars(SMALL), **changed}))
    pipeline.transformer.eval()
    return pipeline


# What is bundled ---------------------------------------------------------------------------------------------------


def test_they_are_small_and_have_their_names() -> None:
    assert set(BUNDLED) == {"mini", "mini-rope", "mini@1", "mini-rope@1"} == {*MINIS, *EARLIER_MINIS}
    there = [folder for folder in BUNDLED.values() if folder.is_dir()]
    folders = [sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) for folder in there]
    assert all(1_000_000 < size < 20_000_000 for size in folders)


def test_their_geometry_and_positions(mini: Backbone) -> None:
    assert type(mini) is Mini
    assert (mini.name in BUNDLED, mini.family, len(mini.revision or "")) == (True, "CogVideoX", 12)
    assert mini.default_size == (40, 40, 6)
    layout = mini.layout(*mini.default_size)
    assert (layout.frames, layout.height, layout.width, layout.text_tokens) == (6, 10, 10, 40)
    assert layout.spans == tuple(range(image, image + 1) for image in range(6))
    rotary = mini.pipeline.transformer.config.use_rotary_positional_embeddings
    assert rotary == (mini.name == "mini-rope")


def test_the_same_seed_generates_the_same_clip(mini: Backbone) -> None:
    first, again, other = (mini.generate(PROMPT, seed=seed, steps=2).images for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_bundled_weights_follow_the_prompt(mini: Backbone) -> None:
    for channel, colour in enumerate(("red", "green", "blue")):
        clip = mini.generate(f"a white disc moves left over {colour} clouds", seed=1, steps=5)
        assert clip.images.mean(axis=(0, 1, 2)).argmax() == channel


def test_other_sizes_than_the_trained_one_run(mini: Backbone) -> None:
    assert mini.generate("", steps=1, height=16, width=48, images=3).images.shape == (3, 16, 48, 3)


def test_sizes_that_the_pipeline_would_refuse_are_refused_first(small: Backbone) -> None:
    """Cells are of 4 pixels, but diffusers takes only multiples of 8."""
    assert small.nearest_size(20, 30, 3) == (16, 32, 3)
    for run in (lambda: small.generate(PROMPT, steps=1, height=20), lambda: small.encode(make_scene(0, 3, 20, 24))):
        with pytest.raises(InvalidInputError, match=r"does not take 20 x 24 px .* multiples of 8 px, widths of 8 px"):
            run()


def test_they_use_their_own_guidance_where_none_is_asked_for(small: Backbone) -> None:
    assert small.arguments(PROMPT)["guidance_scale"] == GUIDANCE_SCALE
    assert small.arguments(PROMPT, guidance_scale=2)["guidance_scale"] == 2.0
    assert small.arguments(PROMPT, conditioning={"guidance_scale": 3.0})["guidance_scale"] == 3.0
    chosen, plain = (small.generate(PROMPT, steps=2, guidance_scale=scale) for scale in (GUIDANCE_SCALE, None))
    np.testing.assert_array_equal(chosen.images, plain.images)


# Saving and loading ------------------------------------------------------------------------------------------------


def generated(pipeline: Any) -> torch.Tensor:
    """Latents, so that not even rounding to pixels could hide a difference."""
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt=PROMPT,
        height=16,
        width=24,
        num_frames=3,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
    ).frames


@pytest.mark.parametrize("rotary", [False, True])
def test_what_is_saved_generates_the_same_bits_however_it_is_loaded(rotary: bool, tmp_path: Path) -> None:
    pipeline = small_pipeline(rotary=rotary)
    expected = generated(pipeline)
    save_mini(pipeline, tmp_path / "saved")
    backbone = load_backbone(tmp_path / "saved", device="cpu")
    backbone.pipeline.save_pretrained(tmp_path / "again")
    CogVideoXPipeline.from_pretrained(tmp_path / "again").save_pretrained(tmp_path / "third")
    for loaded in (
        backbone.pipeline,
        load_mini(tmp_path / "saved"),
        CogVideoXPipeline.from_pretrained(tmp_path / "saved"),
        DiffusionPipeline.from_pretrained(tmp_path / "again"),
        load_mini(tmp_path / "third"),
        load_backbone(tmp_path / "third", device="cpu").pipeline,
    ):
        assert torch.equal(generated(loaded), expected)


def test_the_index_names_the_class_of_each_part_and_no_folder_of_this_machine(tmp_path: Path) -> None:
    save_mini(small_pipeline(), tmp_path / "saved")
    load_mini(tmp_path / "saved").save_pretrained(tmp_path / "again")
    for folder in ("saved", "again"):
        index = CogVideoXPipeline.load_config(tmp_path / folder)
        assert {name: part for name, part in index.items() if isinstance(part, list)} == {
            "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["probe.mini.text", "SceneTokenizer"],
            "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
            "vae": ["probe.mini.codec", "PixelCodec"],
        }
        text = "".join(path.read_text() for path in (tmp_path / folder).rglob("*.json"))
        assert str(tmp_path) not in text


def test_the_pipeline_of_the_exported_folder_runs_with_its_own_defaults(tmp_path: Path) -> None:
    backbone = load_backbone(small_pipeline())
    save_mini(backbone.pipeline, tmp_path)
    pipeline = CogVideoXPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    frames = pipeline(
        PROMPT, num_inference_steps=2, generator=torch.Generator().manual_seed(0), output_type="np"
    ).frames
    clip = backbone.generate(PROMPT, steps=2, guidance_scale=6.0)
    np.testing.assert_array_equal(np.rint(frames[0] * 255), clip.images)


def test_another_scheduler_is_kept(tmp_path: Path) -> None:
    pipeline = small_pipeline()
    pipeline.scheduler = CogVideoXDPMScheduler.from_config(pipeline.scheduler.config)
    pipeline.save_pretrained(tmp_path)
    scheduler = load_backbone(tmp_path, device="cpu").pipeline.scheduler
    assert type(scheduler) is CogVideoXDPMScheduler
    for name, value in pipeline.scheduler.config.items():
        assert name.startswith("_") or scheduler.config[name] == value


def test_the_data_type_is_that_of_all_parts(tmp_path: Path) -> None:
    save_mini(small_pipeline(), tmp_path)
    pipeline = load_mini(tmp_path, dtype=torch.bfloat16)
    for part in (pipeline.transformer, pipeline.text_encoder, pipeline.vae):
        assert part.dtype == torch.bfloat16
        assert not part.training
    assert load_backbone(tmp_path, device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_a_folder_called_mini_is_not_the_bundled_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_mini(small_pipeline(), "mini")
    assert load_mini(Path("mini")).transformer.config.num_layers == 1
    assert load_backbone(Path("mini"), device="cpu").default_size == (16, 24, 3)
    assert load_mini("mini").transformer.config.num_layers == 6
    assert load_backbone("mini", device="cpu").default_size == (40, 40, 6)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    with pytest.raises(BackboneNotFoundError) as caught:
        load_mini(tmp_path)
    assert str(caught.value) == (
        f"no mini backbone at {tmp_path}: tokenizer, text_encoder, transformer, scheduler missing. Bundled are mini, "
        "mini-rope, mini@1 and mini-rope@1; train another with python -m probe.mini.training."
    )


def test_saving_and_loading_print_nothing_and_leave_the_progress_bars_as_they_were(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = transformers_logging.is_progress_bar_enabled()
    try:
        for shown in (True, False):
            (transformers_logging.enable_progress_bar if shown else transformers_logging.disable_progress_bar)()
            save_mini(small_pipeline(), tmp_path)
            load_mini(tmp_path)
            assert transformers_logging.is_progress_bar_enabled() == shown
            assert are_progress_bars_disabled() != shown
    finally:
        (transformers_logging.enable_progress_bar if before else transformers_logging.disable_progress_bar)()
    load_backbone("mini", device="cpu")
    assert diffusers_logging.is_progress_bar_enabled()
    assert capfd.readouterr() == ("", "")


# The codec ---------------------------------------------------------------------------------------------------------


def psnr(images: np.ndarray, others: np.ndarray) -> float:
    error = np.square(images.astype(float) - others).mean()
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def test_encoding_and_decoding_lose_nothing(mini: Backbone) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 24, 56, 3), np.uint8)
    for clip in (make_scene(8), Clip(noise, fps=8)):
        decoded = mini.decode(mini.encode(clip)).images
        assert psnr(decoded, clip.images) >= 30
        np.testing.assert_array_equal(decoded, clip.images)


@pytest.mark.skipif(not (DATA / "clips" / "juggle.mp4").is_file(), reason="the real clips are not here")
def test_a_real_clip_comes_back_at_a_size_that_is_not_square(mini: Backbone) -> None:
    with av.open(str(DATA / "clips" / "juggle.mp4")) as video:
        frames = list(islice(video.decode(video=0), 6))  # the whole file would take seconds
    images = np.stack([frame.to_ndarray(format="rgb24")[:232, :312] for frame in frames])
    assert images.shape == (6, 232, 312, 3)
    assert psnr(mini.decode(mini.encode(Clip(images, fps=8))).images, images) >= 30


def test_latents_are_blocks_of_two_by_two_pixels() -> None:
    images = torch.arange(3 * 5 * 4 * 6, dtype=torch.float32).reshape(1, 3, 5, 4, 6)
    latents = PixelCodec().encode(images).latent_dist.sample()
    assert latents.shape == (1, 12, 5, 2, 3)
    for colour in range(3):
        block = images[0, colour, 3, 2:4, 4:6].flatten()
        assert torch.equal(latents[0, 4 * colour : 4 * colour + 4, 3, 1, 2], block)


# The text side -----------------------------------------------------------------------------------------------------


def test_every_scene_prompt_is_known_to_the_bundled_tokenizers(mini: Backbone) -> None:
    tokenizer = mini.pipeline.tokenizer
    # the first weights are older than open prompts, and refuse their additional word
    assert {*tokenizer.get_vocab(), ANY_SHAPE} >= {*scene_words()}
    for seed in range(50):
        prompt = make_scene(seed, 1, 8, 8).prompt
        ids = tokenizer(prompt).input_ids
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.slots or tokenizer.decode(ids) == prompt


@pytest.mark.parametrize("name", EARLIER_MINIS)
def test_weights_from_before_open_prompts_warn_of_them_and_refuse_their_word(name: str) -> None:
    mini = load_backbone(name, device="cpu")
    assert (type(mini), mini.pipeline.tokenizer.slots) == (Mini, False)
    assert ANY_SHAPE not in mini.pipeline.tokenizer.get_vocab()
    with pytest.warns(PromptWarning, match="it leaves the motion and the pattern open, and these weights were trained"):
        mini.check_prompt("a red disc over blue")
    with pytest.raises(PromptError, match="it leaves the shape open"):
        mini.check_prompt("a red object moves left over blue stripes")


def test_the_bundled_weights_take_open_prompts_without_a_warning(mini: Backbone) -> None:
    assert mini.pipeline.tokenizer.slots
    for prompt in (
        "a red disc over blue",
        "a red object moves left over blue stripes",
        "a red object over blue while the camera moves",
    ):
        mini.check_prompt(prompt)


def test_the_tokenizer_pads_cuts_and_marks_what_it_does_not_know() -> None:
    tokenizer = new_tokenizer(5, slots=False)
    red, disc = (tokenizer.get_vocab()[word] for word in ("red", "disc"))
    found = tokenizer(["Red purpel", "disc."], padding="max_length").input_ids
    assert found == [[red, 1, 0, 0, 0], [disc, 0, 0, 0, 0]]
    assert tokenizer("red " * 9, truncation=True).input_ids == [red] * 5
    assert tokenizer("").input_ids == []
    assert tokenizer("red", padding="max_length", max_length=226).input_ids == [red, 0, 0, 0, 0]
    assert tokenizer("red " * 9, truncation=True, max_length=2).input_ids == [red] * 2


def test_a_tokenizer_with_slots_has_a_place_for_each_part_of_a_prompt(tmp_path: Path) -> None:
    new_tokenizer(40).save_pretrained(tmp_path)
    tokenizer = SceneTokenizer.from_pretrained(tmp_path)
    places: list[set[str]] = [set() for _ in range(17)]
    for seed in range(60):
        prompt = make_scene(seed, 1, 8, 8).prompt
        tokens = tokenizer.convert_ids_to_tokens(tokenizer(prompt, padding="max_length").input_ids)
        assert (len(tokens), set(tokens[17:]), UNKNOWN in tokens) == (40, {"<pad>"}, False)
        objects = [" ".join(word for word in tokens[at : at + 4] if word != NOTHING) for at in (0, 4, 8)]
        background = " ".join(word for word in tokens[12:14] if word != NOTHING)
        camera = " and ".join(word for word in tokens[14:17] if word != NOTHING)
        said = " and ".join(f"{'an' if each[0] in 'aeiou' else 'a'} {each}" for each in objects if each)
        assert f"{said} over {background}{' while the camera ' + camera if camera else ''}" == prompt
        for place, token in zip(places, tokens[:17], strict=True):
            place.add(token)
    assert places[3] | places[7] | places[11] <= {NOTHING, *(f"moves {word}" for word in DIRECTIONS)}
    assert places[14] <= {NOTHING, *(f"pans {word}" for word in DIRECTIONS)}
    assert places[2] - {NOTHING} == set(SHAPES)
    moves = "a red object over blue while the camera moves"
    named = tokenizer.convert_ids_to_tokens(tokenizer(moves).input_ids)
    assert named[12:] == ["blue", NOTHING, "moves", NOTHING, NOTHING]
    other = tokenizer(["Disc, red!", "red purpel", ""], padding=True).input_ids
    assert [tokenizer.convert_ids_to_tokens(ids) for ids in other] == [["disc", "red"], ["red", UNKNOWN], ["<pad>"] * 2]


def test_the_encoder_tells_words_and_their_places_apart() -> None:
    torch.manual_seed(0)
    tokenizer = new_tokenizer(12, slots=False)
    encoder = new_text_encoder(len(tokenizer), 32, 12).eval()
    texts = ["a red disc moves left over blue dots", "a blue disc moves left over red dots"]
    ids = tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    states = encoder(ids)[0]
    assert states.shape == (2, 12, 32)
    same = [0, 2, 3, 4, 5, 7]  # the words but the colours, which change places
    assert torch.equal(states[0, same], states[1, same])
    assert (states[0, [1, 6]] - states[1, [1, 6]]).abs().amax(-1).min() > 0.1
    assert (states[0, [1, 6]] - states[1, [6, 1]]).abs().amax(-1).min() > 0.1
    assert (states[0, 8] - states[0, 9]).abs().max() > 0.1, "padding is told apart too"


# Prompts -----------------------------------------------------------------------------------------------------------

REFUSAL = (
    "unknown word 'purpel'; known colours: red, orange, yellow, green, cyan, blue, purple, pink, white, grey. Did you "
    "mean 'purple'?"
)
WRONG = "a purpel disc moves left over blue stripes"
LAST = Selection(steps=[-1], layers=[0])


def made(seed: int = 0, prompt: str | None = None) -> Clip:
    scene = make_scene(seed, 3, 16, 24)
    return Clip(scene.images, scene.fps, scene.tracks, scene.visibility, prompt=prompt)


def text_keys(backbone: Backbone, clip: Clip, prompt: str | None = None) -> torch.Tensor:
    """Keys of the text that the model read while it was shown a clip."""
    captures: list[Any] = []
    run_clip(backbone, clip, LAST, captures.append, steps=2, prompt=prompt)
    return captures[0].text_key.clone()


def runs(backbone: Backbone, folder: Path) -> dict[str, Callable[[], object]]:
    """Everything that runs a prompt, with one that has an unknown word."""
    sink: Callable[[Any], None] = [].append
    few: dict[str, Any] = {"steps": 2}
    path = folder / "run.zarr"
    return {
        "generate": lambda: backbone.generate(WRONG, **few),
        "negative": lambda: backbone.generate(PROMPT, negative_prompt=WRONG, **few),
        "arguments": lambda: backbone.generate(PROMPT, conditioning={"prompt": WRONG}, **few),
        "forward": lambda: ForwardPass(backbone, WRONG, **few),
        "run_prompt": lambda: run_prompt(backbone, WRONG, LAST, sink, **few),
        "run_clip": lambda: run_clip(backbone, made(), LAST, sink, prompt=WRONG, **few),
        "record": lambda: record(backbone, WRONG, LAST, path, overwrite=True, **few),
        "record clip": lambda: record(backbone, made(), LAST, path, prompt=WRONG, overwrite=True, **few),
        "record negative": lambda: record(backbone, PROMPT, LAST, path, negative_prompt=WRONG, overwrite=True, **few),
        "sweep": lambda: sweep(backbone, [PROMPT, WRONG], LAST, **few),
        "sweep clips": lambda: sweep(backbone, [made()], LAST, prompt=WRONG, **few),
        "sweep negative": lambda: sweep(backbone, [PROMPT], LAST, negative_prompt=WRONG, **few),
    }


@pytest.mark.parametrize("name", list(runs(None, Path())))  # type: ignore[arg-type]  # for the names alone
def test_unknown_words_are_refused_before_anything_runs(
    name: str, small: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(small, PROMPT, LAST, tmp_path / "run.zarr", steps=2)

    def ran(*args: object, **kwargs: object) -> None:
        raise AssertionError("the model ran")

    monkeypatch.setattr(small.pipeline.transformer, "forward", ran)
    monkeypatch.setattr(small.pipeline.text_encoder, "forward", ran)
    with pytest.raises(PromptError) as caught:
        runs(small, tmp_path)[name]()
    assert str(caught.value) == REFUSAL
    assert isinstance(caught.value, InvalidInputError)
    assert open_recording(tmp_path / "run.zarr").provenance.prompt == PROMPT


def test_known_words_in_another_order_are_run_with_a_warning(small: Backbone) -> None:
    message = (
        "CogVideoXPipeline was trained on another kind of prompt than 'red disc': unexpected word 'red'; known "
        "articles: a, an."
    )
    with pytest.warns(PromptWarning) as caught:
        clip = small.generate("red disc", steps=1)
    assert {str(warning.message) for warning in caught} == {message}
    assert issubclass(PromptWarning, UserWarning)
    assert clip.prompt == "red disc"


@pytest.mark.parametrize("prompt", [None, "", "  ", PROMPT, PROMPT.upper() + "."])
def test_what_the_training_showed_is_run_without_a_warning(prompt: str | None, small: Backbone) -> None:
    small.generate(prompt, steps=1)
    small.generate(prompt, steps=1, negative_prompt="grey blue")


def test_embeddings_are_not_read_so_the_prompt_beside_them_is_not_checked(small: Backbone) -> None:
    embeddings = torch.zeros(1, 40, SMALL.text_channels)
    conditioning = {"prompt_embeds": embeddings, "negative_prompt_embeds": embeddings}
    assert small.generate("a dog", steps=1, conditioning=conditioning).prompt == "a dog"


def test_a_clip_with_a_caption_that_cannot_be_read_is_shown_without_it(small: Backbone, tmp_path: Path) -> None:
    clip = made(prompt="a dog runs")
    message = (
        "the clip is shown to CogVideoXPipeline without its prompt 'a dog runs': unknown word 'dog'; known colours: "
        "red, orange, yellow, green, cyan, blue, purple, pink, white, grey."
    )
    with pytest.warns(PromptWarning) as caught:
        run = record(small, clip, LAST, tmp_path / "captioned.zarr", steps=2)
    assert {str(warning.message) for warning in caught} == {message}
    assert run.provenance.prompt == ""
    with pytest.warns(PromptWarning):
        keys = text_keys(small, clip)
    assert torch.equal(keys, text_keys(small, made()))
    with pytest.warns(PromptWarning):
        found = sweep(small, [clip], LAST, steps=2, noise="clean")
    assert [piece["prompt"] for piece in found.attrs["clips"]] == [""]


def test_a_caption_that_can_be_read_is_read(small: Backbone, tmp_path: Path) -> None:
    run = record(small, made(prompt=PROMPT), LAST, tmp_path / "run.zarr", steps=2)
    assert run.provenance.prompt == PROMPT
    keys = text_keys(small, made(prompt=PROMPT))
    assert torch.equal(keys, text_keys(small, made(), prompt=PROMPT))
    assert not torch.equal(keys, text_keys(small, made()))


def test_a_pipeline_of_ones_own_with_another_tokenizer_reads_what_it_likes(tmp_path: Path) -> None:
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<unknown>": 1, "dog": 2}, unk_token="<unknown>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    pipeline = small_pipeline()
    pipeline.tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unknown>", model_max_length=40
    )
    pipeline.save_pretrained(tmp_path)
    for backbone in (load_backbone(pipeline), load_backbone(tmp_path, device="cpu")):
        assert type(backbone) is CogVideoX
        assert backbone.generate("a dog runs", steps=1).prompt == "a dog runs"
        assert "guidance_scale" not in backbone.arguments("a dog runs")


def test_one_clip_is_made_from_one_prompt(small: Backbone) -> None:
    message = r"^generate makes one clip from one prompt; got a list of 2\. Call it once for each prompt\.$"
    with pytest.raises(InvalidInputError, match=message):
        small.generate(["a", "b"], steps=1)
    with pytest.raises(InvalidInputError, match=message):
        small.generate(PROMPT, negative_prompt=["b", "c"], steps=1)
    with pytest.raises(InvalidInputError, match=message):
        run_prompt(small, ["a", "b"], Selection([0], [0]), [].append, steps=1)


@pytest.mark.parametrize("steps", [0, 1001])
def test_a_number_of_steps_that_the_scheduler_has_not_is_refused(small: Backbone, steps: int) -> None:
    message = {
        0: r"^a run needs at least 1 step; got steps=0\.$",
        1001: r"^a run of 1001 steps was asked for; CogVideoXDDIMScheduler has 1000 timesteps, so at most steps=1000",
    }[steps]
    for run in (small.schedule, small.sigmas, lambda n: small.generate(PROMPT, steps=n)):
        with pytest.raises(InvalidInputError, match=message):
            run(steps)
    assert len(small.schedule(1000)) == 1000
