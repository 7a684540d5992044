"""Files that are appended to: cut lines, damaged lines, files of something else, other settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.errors import InvalidInputError, RecordingError
from store.files.appended import AppendedFile, AppendedKind
from store.files.outputs import OutputFile

KIND = AppendedKind(OutputFile("marks", "marks.jsonl"), "marks 1", "marks of clips", "clip is marked")


def read(path: Path, **settings: object) -> list[int]:
    return AppendedFile(KIND, path, settings or {"seed": 0}).read(lambda values: values["mark"])


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    path = tmp_path / "marks.jsonl"
    file = AppendedFile(KIND, path, {"seed": 0})
    for mark in (3, 5):
        file.add({"mark": mark})
    return path


def test_a_line_that_a_kill_has_cut_is_written_over(marks: Path) -> None:
    marks.write_bytes(marks.read_bytes()[:-4])
    file = AppendedFile(KIND, marks, {"seed": 0})
    assert file.read(lambda values: values["mark"]) == [3]
    file.add({"mark": 7})
    assert read(marks) == [3, 7]


@pytest.mark.parametrize("content", [b"my notes of a year, in one line", b"my notes\n", b'{"format": "other"}\n'])
def test_a_file_of_something_else_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match="is not a checkpoint of marks of clips"):
        read(path)
    assert path.read_bytes() == content


def test_a_first_line_that_was_cut_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "marks.jsonl"
    path.write_bytes(b'{"format": "mar')
    file = AppendedFile(KIND, path, {"seed": 0})
    assert file.read(lambda values: values["mark"]) == []
    file.add({"mark": 1})
    assert read(path) == [1]


def test_a_flipped_digit_is_noticed(marks: Path) -> None:
    marks.write_bytes(marks.read_bytes().replace(b'"mark": 3', b'"mark": 4'))
    with pytest.raises(RecordingError, match=r"line 2, is damaged.* Delete that line, and its clip is marked again\."):
        read(marks)


def test_other_settings_are_named(marks: Path) -> None:
    with pytest.raises(InvalidInputError, match="marks of clips with other settings: seed was 0, now 1"):
        read(marks, seed=1)


def test_nothing_is_kept_without_a_path() -> None:
    file = AppendedFile(KIND, None, {})
    file.add({"mark": 1})
    assert file.read(lambda values: values) == []
