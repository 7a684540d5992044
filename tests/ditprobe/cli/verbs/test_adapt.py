"""``ditprobe adapt``, ``transfer --adapter`` and ``bench mtbench``: what they write, and what they refuse."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import Result

from generators.adapters import files
from generators.adapters.files import load_adapter, read_adapter_header
from generators.adapters.training import train as training_module
from probe import load_backbone
from probe.mini import MiniConfig, new_pipeline, save_mini
from store import Clip, make_scene, read_clip, write_clip
from store.errors import RecordingError

Run = Callable[..., Result]
SMALL = MiniConfig(images=3, height=16, width=24, layers=2, heads=2, channels=16)
PROMPT = "a green ring moves up over white dots"
ON_SMALL = ["-b", "./small", "--device", "cpu"]
QUICK = ["adapt", "ref.mkv", *ON_SMALL, "--training-steps", 4, "--learning-rate", 0.01, "--tracking-weight", 0]


@pytest.fixture(autouse=True)
def small(run: Run) -> None:
    torch.manual_seed(0)
    save_mini(new_pipeline(SMALL), "small")
    scene = make_scene(4, 3, 16, 24)
    write_clip("ref.mkv", Clip(scene.images, fps=8, prompt="a red disc moves left over blue stripes"))


def test_adapter_is_learnt_once_and_used_for_prompts(run: Run) -> None:
    found = run(*QUICK, "--sample", PROMPT, "--sample-every", 2, "--picture", "loss.html")
    assert "TemporalKernel(" in found.stdout
    assert "loss.html: the loss and 2 samples" in found.stdout
    assert "after 4 steps" in Path("loss.html").read_text()
    header = read_adapter_header("motion.safetensors")
    assert header["details"]["training"]["steps"] == 4
    told = run("info", "motion.safetensors").stdout
    assert told.startswith("Motion adapter (temporal-kernel) of 2 of 2 layers of ./small\n  method             DeT\n")
    assert "training           4 steps" in told
    assert load_adapter("motion.safetensors", load_backbone("./small")).layers == (0, 1)
    assert not Path("motion.training.pt").exists()
    made = run("transfer", PROMPT, "--adapter", "motion.safetensors", *ON_SMALL, "--steps", 2, "--out", "a.mkv")
    assert "the temporal-kernel adapter in 1 of 2 layers, from motion.safetensors" in made.stdout
    assert read_clip("a.mkv").images.shape == (3, 16, 24, 3)


def test_interrupted_training_is_kept_and_resumed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run(*QUICK, "--out", "whole.safetensors")
    real = training_module.Objective.losses

    def interrupted(self: object, step: int) -> object:
        if step == 2:
            raise KeyboardInterrupt
        return real(self, step)  # type: ignore[arg-type]

    monkeypatch.setattr(training_module.Objective, "losses", interrupted)
    found = run(*QUICK, code=130)
    assert "motion.training.pt keeps the training; the same command with --resume continues it." in found.stderr
    monkeypatch.setattr(training_module.Objective, "losses", real)
    assert "--resume" in run(*QUICK, code=2).stderr
    run(*QUICK, "--resume")
    backbone = load_backbone("./small")
    whole, resumed = (load_adapter(f"{name}.safetensors", backbone).state_dict() for name in ("whole", "motion"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_plan_has_parameters_and_memory_and_writes_nothing(run: Run) -> None:
    found = run(*QUICK, "--method", "dreambooth", "--gradient-checkpointing", "--dry-run", "--no-estimate")
    assert "parameters, 4 steps, 12 passes of one branch" in found.stdout
    assert "with gradient checkpointing (without: " in found.stdout
    assert not Path("motion.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["adapt", "still.mkv", *ON_SMALL], "no motion to learn"),
        (["adapt", "one.mkv", *ON_SMALL], "the clip has 1 image, so there is no motion to learn"),
        (["adapt", "nowhere.mkv", *ON_SMALL], "nowhere.mkv"),
        ([*QUICK, "--tracking-weight", 1, "--tracks", "clip"], "Take those of 'backbone' or 'flow'"),
        ([*QUICK, "--learning-rate", "nan"], "learning_rate must be a number"),
        ([*QUICK, "--keep", 1.5], "keep must lie between 0 and 1"),
        ([*QUICK, "--out", "a.pt"], "Name it a.safetensors"),
        ([*QUICK, "--method", "dreambooth", "--preset", "det"], "is one of --method det"),
        (["transfer", PROMPT, "--adapter", "ref.mkv", *ON_SMALL], "motion adapter"),
        (["transfer", PROMPT, "--adapter", "nowhere.safetensors", *ON_SMALL], "nowhere.safetensors"),
        (["transfer", "ref.mkv", PROMPT, "--adapter", "a.safetensors", *ON_SMALL], "already has the motion"),
        (["transfer", PROMPT, "--adapter", "a.safetensors", "--method", "smm"], "cannot be combined with --adapter"),
        (["transfer", PROMPT, "--adapter", "a", "--embedding", "b"], "both have a motion"),
        (["bench", "mtbench", "nowhere"], "nowhere does not exist"),
        (["bench", "mtbench", "--method", "dett"], "Did you mean 'det'?"),
        (["bench", "mtbench", "--method", "smm", *ON_SMALL], "--method smm does not know the layers of ./small"),
        (["bench", "motionbench", "small"], "no folder of a category of MotionBench: camera, single object"),
    ],
)
def test_bad_input_is_refused(run: Run, words: list[str], message: str) -> None:
    write_clip("still.mkv", Clip(np.zeros((3, 16, 24, 3), np.uint8), fps=8))
    write_clip("one.mkv", Clip(make_scene(4, 1, 16, 24).images, fps=8))
    found = run(*words, code=2)
    assert message in found.stderr.replace("\n", " ")


def test_adapter_of_another_backbone_is_refused_with_the_reason(run: Run) -> None:
    run(*QUICK)
    found = run("transfer", PROMPT, "--adapter", "motion.safetensors", "--steps", 1, "--out", "a.mkv", code=2)
    assert "layers 6 instead of 2" in found.stderr


def test_a_damaged_adapter_is_refused(run: Run) -> None:
    run(*QUICK)
    data = bytearray(Path("motion.safetensors").read_bytes())
    Path("cut.safetensors").write_bytes(data[: len(data) // 2])
    data[-5] ^= 0xFF
    Path("changed.safetensors").write_bytes(data)
    for name in ("cut", "changed"):
        found = run("transfer", PROMPT, "--adapter", f"{name}.safetensors", *ON_SMALL, "--out", "a.mkv", code=2)
        assert f"{name}.safetensors holds no motion adapter, or it is damaged" in found.stderr.replace("\n", " ")


def test_a_full_disk_at_the_end_loses_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = files.save_adapter

    def full(adapter: object, path: Path, **options: bool) -> Path:
        if path.name == path.as_posix():
            raise RecordingError("the disk is full.") from OSError(28, "No space left on device")
        return real(adapter, path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(files, "save_adapter", full)
    found = run(*QUICK, code=1).stderr.replace("\n", " ")
    kept = Path(found.split("It is kept in ")[1].split(": move it.")[0])
    assert load_adapter(kept, load_backbone("./small")).kind == "temporal-kernel"
    shutil.rmtree(kept.parent)


def test_a_training_that_diverges_keeps_its_last_good_adapter(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = training_module.Objective.losses

    def losses(self: object, step: int) -> tuple[object, ...]:
        found = real(self, step)  # type: ignore[arg-type]
        return (found[0] * float("nan"), *found[1:]) if step == 2 else found

    monkeypatch.setattr(training_module.Objective, "losses", losses)
    found = run(*QUICK, code=2).stderr.replace("\n", " ")
    assert "diverged at step 2 of 4" in found
    assert "They are kept in motion.step2.safetensors." in found
    assert load_adapter("motion.step2.safetensors", load_backbone("./small")).layers == (0, 1)


def test_benchmark_of_scenes_is_measured_planned_and_resumed(run: Run) -> None:
    words = ["bench", "mtbench", "--entries", 1, "--prompts", 1, "--steps", 1, "--method", "none"]
    plan = run(*words, "--dry-run", "--no-estimate")
    assert "3 clips (1 easy, 1 medium, 1 hard), 3 prompts" in plan.stdout
    found = run(*words, "--published")
    assert "| none | " in found.stdout
    assert "DeT (CogVideoX), published | 85.8" in found.stdout
    assert len(Path("mtbench.jsonl").read_text().splitlines()) == 4
    assert "an evaluation of motion transfer: 3 clips" in run("info", "mtbench.jsonl").stdout
    again = run(*words, "--resume")
    assert again.stdout.splitlines()[2] == found.stdout.splitlines()[2]


# Follow-Your-Motion -----------------------------------------------------------------------------------------------

OF_HEADS = ["adapt", "ref.mkv", *ON_SMALL, "--method", "follow-your-motion", "--split", "none"]
SHORT = ["--spatial-steps", 2, "--training-steps", 2, "--sampled-frames", 2]


def test_heads_of_space_and_time_are_adapted_in_turn(run: Run) -> None:
    found = run(*OF_HEADS, *SHORT, "--sample", PROMPT, "--sample-every", 4)
    assert "DecoupledLoRA(" in found.stdout
    header = read_adapter_header("motion.safetensors")
    assert header["details"]["settings"]["sampled"] == 2
    assert len(header["details"]["losses"]) == 4
    run("transfer", "--adapter", "motion.safetensors", PROMPT, *ON_SMALL, "--steps", 1, "--out", "new.mkv")
    assert len(read_clip("new.mkv")) == 3


def test_plan_of_two_stages_and_options_of_another_method(run: Run) -> None:
    found = run(*OF_HEADS, *SHORT, "--dry-run", "--no-estimate")
    assert "2 steps on images, then 2 on 2 of 3 frames" in found.stdout
    assert "is for --method follow-your-motion" in run(*QUICK, "--split", "random", code=2).stderr
    assert "one of --method det" in run(*OF_HEADS, "--preset", "det", code=2).stderr
    assert "2 to 3" in run(*OF_HEADS, "--sampled-frames", 9, code=2).stderr
    assert "9 frames cannot be sampled" in run(*OF_HEADS, "--sampled-frames", 9, code=2).stderr
    small_grid = run("adapt", "ref.mkv", *ON_SMALL, "--method", "follow-your-motion", "--preset", "code", code=2)
    message = small_grid.stderr.replace("\n", " ")
    assert "at least 128 cells" in message
    assert "such as --split exact" in message


def test_published_models_are_planned_without_a_network(run: Run) -> None:
    found = run("adapt", "ref.mkv", "-b", "THUDM/CogVideoX-5b", "--preset", "paper", "--dry-run", "--no-estimate")
    assert "THUDM/CogVideoX-5b" in found.stdout
    assert "99,090,432 parameters, 500 steps, 1500 passes of one branch" in found.stdout  # 42 x 2 x 3072 x 128 x 3


def test_motionbench_of_scenes_is_planned_and_measured(run: Run) -> None:
    words = ["bench", "motionbench", "--entries", 1, "--prompts", 1, "--steps", 1, "--method", "none"]
    plan = run(*words, "--dry-run", "--no-estimate")
    assert "3 clips (1 camera, 1 single object, 1 several objects), 3 prompts" in plan.stdout
    found = run(*words, "--published")
    assert "MF, several objects (1)" in found.stdout
    assert "Follow-Your-Motion, published" in found.stdout
    assert "people are measured on folders of yours alone" in found.stdout
    assert Path("motionbench.jsonl").exists()
    missing = run("bench", "motionbench", "nowhere", "--out", "other.jsonl", code=2).stderr
    assert "Name a folder of MotionBench's layout" in missing.replace("\n", " ")


def test_motionbench_of_folders_has_all_four_categories(run: Run) -> None:
    """People are in folders alone: scenes are drawn of the other three."""
    scene = make_scene(4, 3, 16, 24)
    tracks = np.asarray(scene.tracks)[:, :20] / [24, 16]
    values = np.concatenate([tracks, np.asarray(scene.visibility)[:, :20, None]], -1).astype(np.float32)
    for category in ("camera", "single object", "several objects", "people"):
        folder = Path("bench", category, "one")
        folder.mkdir(parents=True)
        write_clip(folder / "0.mkv", Clip(scene.images, fps=8))
        torch.save(torch.from_numpy(values), folder / "0.pth")
        texts = {"videos": "0.mkv", "prompts": PROMPT, "trajectories": "0.pth", "eval_prompts": PROMPT}
        for name, text in texts.items():
            (folder / f"{name}.txt").write_text(f"{text}\n")
    found = run("bench", "motionbench", "bench", *ON_SMALL, "--method", "none", "--steps", 1).stdout
    for category in ("all (4)", "camera (1)", "single object (1)", "several objects (1)", "people (1)"):
        assert f"MF, {category}" in found
