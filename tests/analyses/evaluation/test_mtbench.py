"""MTBench: prompts that are read, difficulty by a known number of groups, and an evaluation that is resumed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analyses.evaluation.mtbench import METRICS, Measures, entry_tracks, evaluate_mtbench, mtbench_means
from analyses.evaluation.mtbench_difficulty import motion_difficulty
from analyses.evaluation.mtbench_entries import SCENE_SEEDS, read_mtbench_entries, scene_entries, scene_entry
from analyses.evaluation.mtbench_tables import PUBLISHED, mtbench_table, published_mtbench
from analyses.metrics.hybrid_fidelity import hybrid_motion_fidelity
from store import Clip, write_clip
from store.errors import ClipError, InvalidInputError, OutputExistsError, RecordingError
from store.scenes.prompt import parse_prompt
from store.tracks.point_tracks import PointTracks


def groups(count: int, *, points: int = 6, apart: float = 60.0) -> np.ndarray:
    """Tracks of well separated groups, each going its own way."""
    rng = np.random.default_rng(0)
    steps = np.arange(5.0)[:, None, None]
    parts = [
        rng.normal(0, 1, (1, points, 2)) + [apart * number, 100.0] + steps * [3.0 * (-1) ** number, number]
        for number in range(count)
    ]
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize(
    ("count", "level"), [(2, "easy"), (3, "easy"), (4, "medium"), (6, "medium"), (7, "hard"), (9, "hard")]
)
def test_groups_are_counted(count: int, level: str) -> None:
    found = motion_difficulty(groups(count))
    assert (found.clusters, found.level) == (count, level)
    assert found.silhouettes[count] == max(found.silhouettes.values())


def test_one_cluster_where_tracks_lie_together_or_no_number_of_groups_fits() -> None:
    assert motion_difficulty(groups(1)).clusters == 1  # within a cell
    rng = np.random.default_rng(1)
    directions = rng.normal(size=(200, 40))  # a ball in many dimensions has no groups
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    ball = (500 + 100 * directions).reshape(200, 20, 2).transpose(1, 0, 2)
    found = motion_difficulty(ball, max_clusters=5)
    assert max(found.silhouettes.values()) < 0.25
    assert found.clusters == 1
    assert motion_difficulty(groups(2, points=1)).clusters == 1


def test_tracks_that_cannot_be_grouped_are_refused() -> None:
    for bad in (np.zeros((3, 2)), np.zeros((3, 0, 2)), np.full((3, 4, 2), np.nan)):
        with pytest.raises(InvalidInputError):
            motion_difficulty(bad)


@pytest.mark.parametrize("level", list(SCENE_SEEDS))
def test_first_scene_of_each_level_has_it_and_prompts_keep_its_motion(level: Any) -> None:
    entry = scene_entry("x", SCENE_SEEDS[level][0], 2)
    assert entry.difficulty.level == level
    before = parse_prompt(str(entry.clip.prompt))
    for prompt in entry.prompts:
        words = parse_prompt(prompt)
        assert [each.direction for each in words.objects] == [each.direction for each in before.objects]
        assert words.camera == before.camera
        assert words.background_colour != before.background_colour
        assert all(a.colour != b.colour for a, b in zip(words.objects, before.objects, strict=True))
    assert len(set(entry.prompts)) == 2


def write_entry(folder: Path, prompts: str, videos: int = 1) -> Path:
    folder.mkdir(parents=True)
    (folder / "trajectories").mkdir()
    for number in range(videos):
        images = np.random.default_rng(number).integers(0, 255, (5, 32, 48, 3), np.uint8)
        write_clip(folder / f"{number}.mp4", Clip(images, 8.0))
        tracks = groups(3) / [200.0, 200.0]
        values = np.concatenate([tracks, np.ones((*tracks.shape[:2], 1))], -1)
        torch.save(torch.from_numpy(values), folder / "trajectories" / f"{number}.pth")
    (folder / "videos.txt").write_text("".join(f"{number}.mp4\n" for number in range(videos)))
    (folder / "prompts.txt").write_text("a dog runs\n" * videos)
    (folder / "trajectories.txt").write_text("".join(f"trajectories/{number}.pth\n" for number in range(videos)))
    (folder / "eval_prompts.txt").write_text(prompts)
    return folder


def test_evaluation_prompts_are_read_with_stray_blanks(tmp_path: Path) -> None:
    write_entry(tmp_path / "one", " A cat runs.  \nA fox runs.\n\n")
    write_entry(tmp_path / "two", "a\nb\nc\nd\n", videos=2)
    found = read_mtbench_entries(tmp_path, min_spread=1.0)
    assert [entry.prompts for entry in found.values()] == [("A cat runs.", "A fox runs."), ("a", "b"), ("c", "d")]
    assert next(iter(found.values())).difficulty.clusters == 3
    assert next(iter(read_mtbench_entries(tmp_path / "one").values())).prompts == ("A cat runs.", "A fox runs.")


def test_entries_without_prompts_or_tracks_are_refused(tmp_path: Path) -> None:
    folder = write_entry(tmp_path / "one", "a\nb\nc\n", videos=2)
    with pytest.raises(ClipError, match="3 prompts for 2 videos"):
        read_mtbench_entries(folder)
    (folder / "eval_prompts.txt").unlink()
    with pytest.raises(ClipError, match=r"has no eval_prompts\.txt"):
        read_mtbench_entries(folder)
    (folder / "eval_prompts.txt").write_text("a\nb\n")
    shutil.rmtree(folder / "trajectories")
    (folder / "trajectories.txt").unlink()
    with pytest.raises(ClipError, match="no trajectories"):
        read_mtbench_entries(folder)


def still(images: np.ndarray, queries: np.ndarray) -> PointTracks:
    return PointTracks.still(np.asarray(queries), len(images))


def counting(calls: list[tuple[str, str]], name: str) -> Callable[[Clip, str], Clip]:
    def transfer(clip: Clip, prompt: str) -> Clip:
        calls.append((name, prompt))
        return Clip(clip.images, clip.fps, prompt=prompt)

    return transfer


def test_oracle_motion_fidelity_is_that_of_the_points_of_the_entry() -> None:
    entry = scene_entries(levels=["easy"], entries=1, prompts=1)["easy-0"]
    found = evaluate_mtbench({"a": entry}, {"copy": counting([], "copy")}, Measures(still))
    theirs, queries = entry_tracks(entry, entry.clip)
    expected = hybrid_motion_fidelity(still(entry.clip.images, queries).tracks, theirs, size=(40, 40))
    assert float(found["motion_fidelity"].squeeze()) == pytest.approx(expected)
    assert float(found["prompt_agreement"].squeeze()) == 0.0  # the prompt names other colours
    assert np.isnan(found["edit_fidelity"].values).all()


def test_tracks_of_an_entry_at_another_size_and_length() -> None:
    entry = scene_entries(levels=["easy"], entries=1, prompts=1)["easy-0"]
    smaller = Clip(np.zeros((3, 20, 40, 3), np.uint8), 8.0)
    tracks, queries = entry_tracks(entry, smaller)
    whole, _ = entry_tracks(entry, entry.clip)
    assert np.allclose(tracks, whole[[0, 2, 5]] * [1.0, 0.5])
    assert np.allclose(queries[:, 1:], tracks[0])


def test_interrupted_evaluation_goes_on_and_gives_the_same(tmp_path: Path) -> None:
    entries = scene_entries(entries=1, prompts=2)
    path, calls = tmp_path / "done.jsonl", []
    methods = {name: counting(calls, name) for name in ("one", "two")}

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_mtbench(entries, methods, Measures(still), checkpoint=path, progress=stop)
    assert len(calls) == 5
    with path.open("ab") as file:
        file.write(b'{"key": "cut by a k')
    found = evaluate_mtbench(entries, methods, Measures(still), checkpoint=path, resume=True)
    assert len(calls) == 3 * 2 * 2
    whole = evaluate_mtbench(entries, methods, Measures(still))
    for name in METRICS:
        assert np.array_equal(found[name], whole[name], equal_nan=True)
    with pytest.raises(OutputExistsError):
        evaluate_mtbench(entries, methods, Measures(still), checkpoint=path)
    with pytest.raises(InvalidInputError, match="other settings: seed was None, now 1"):
        evaluate_mtbench(entries, methods, Measures(still), checkpoint=path, resume=True, settings={"seed": 1})
    path.write_bytes(path.read_bytes().replace(b"motion_fidelity", b"motion_fidelitx", 1))
    with pytest.raises(RecordingError, match="damaged"):
        evaluate_mtbench(entries, methods, Measures(still), checkpoint=path, resume=True)


def test_table_has_levels_methods_and_published_figures() -> None:
    entries = scene_entries(entries=2, prompts=1)
    found = evaluate_mtbench(entries, {"copy": counting([], "copy")}, Measures(still))
    means = mtbench_means(found)
    assert means["clips"].values.tolist() == [6, 2, 2, 2]
    by_hand = found["motion_fidelity"].mean("prompt").squeeze("transfer")
    assert float(means["motion_fidelity"].sel(level="all").squeeze()) == pytest.approx(float(by_hand.mean()))
    assert float(means["motion_fidelity_low"].sel(level="all").squeeze()) < float(by_hand.mean())
    table = mtbench_table(found, published=True).splitlines()
    assert table[0].startswith("| method | MF, all (6) | prompt agreement, all (6) | MF, hard (2)")
    assert len(table) == 3 + len(PUBLISHED)
    assert "| DeT (CogVideoX), published | 85.8 |" in table[-3]
    assert published_mtbench()["edit_fidelity"].sel(level="hard", transfer="MOFT") == 33.8


def test_nothing_to_evaluate_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="nothing to evaluate"):
        evaluate_mtbench({}, {}, Measures(still))
