"""What is known of single models is found by name, by alias and by configuration, in one file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from probe import Backbone, load_backbone
from probe.families.published import ModelCard, model_card, model_cards, names_with
from probe.mini import MiniConfig, load_mini, new_pipeline, save_mini
from store.errors import InvalidInputError


def standing_for(name: str, architecture: dict[str, Any]) -> Backbone:
    """A backbone of a name whose transformer has a configuration and nothing else."""
    fields = {field: value for field, value in architecture.items() if field != "class"}
    transformer = type(architecture["class"], (), {"config": {"dropout": 0.0, **fields}})()
    return cast("Backbone", SimpleNamespace(name=name, denoisers=(transformer,), layers=range(60)))


@pytest.fixture(params=model_cards(), ids=lambda card: card.name)
def card(request: pytest.FixtureRequest) -> ModelCard:
    return request.param


def test_other_ids_of_the_same_weights_are_aliases(card: ModelCard) -> None:
    other = {"class": "NoTransformer"}
    for name in (card.name, f"{card.name}/", *card.aliases):
        assert model_card(standing_for(name, other)) == card
    assert model_card(standing_for("THUDM/CogVideoX-9b", other)) is None


def test_the_organisation_that_renamed_itself_is_known() -> None:
    for name in ("CogVideoX-2b", "CogVideoX-5b", "CogVideoX-5b-I2V"):
        old, new = (model_card(standing_for(f"{owner}/{name}", {"class": "T"})) for owner in ("THUDM", "zai-org"))
        assert old is not None
        assert old == new


def test_a_folder_with_the_configuration_of_a_known_model_has_its_card(card: ModelCard) -> None:
    found = model_card(standing_for("./a-folder", dict(card.architecture)))
    first = next(one for one in model_cards() if one.architecture == card.architecture)  # Wan 2.2 has that of 2.1
    assert found == dataclasses.replace(first, by_configuration=True)
    known = first.tracking or first.guided
    if known is None:
        return
    assert first.source_of(known) == known.source
    assert found is not None
    assert found.source_of(known) == (
        f"{known.source}; of {first.name}, whose configuration this backbone has: other weights may differ"
    )


def test_a_configuration_read_from_a_file_has_lists_for_tuples() -> None:
    card = model_card(standing_for("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", {"class": "T"}))
    assert card is not None
    saved = {name: value if name != "patch_size" else (1, 2, 2) for name, value in card.architecture.items()}
    assert model_card(standing_for("./a-folder", saved)) == dataclasses.replace(card, by_configuration=True)


def test_one_field_that_differs_or_lacks_is_another_model(card: ModelCard) -> None:
    for field in set(card.architecture) - {"class"}:
        other = {**card.architecture, field: "another"}
        assert model_card(standing_for("./a-folder", other)) is None
        lacking = {name: value for name, value in card.architecture.items() if name != field}
        assert model_card(standing_for("./a-folder", lacking)) is None


def test_the_same_mini_weights_saved_to_a_folder_are_known(tmp_path: Path) -> None:
    save_mini(load_mini("mini-rope"), tmp_path / "mine")
    bundled, mine = (model_card(load_backbone(source)) for source in ("mini-rope", str(tmp_path / "mine")))
    assert bundled is not None
    assert mine is not None
    assert (bundled.name, bundled.by_configuration) == ("mini-rope", False)
    assert (mine.name, mine.by_configuration) == ("mini-rope", True)
    assert mine.tracking == bundled.tracking


def test_a_mini_of_another_configuration_is_not_known() -> None:
    assert model_card(load_backbone(new_pipeline(MiniConfig(layers=5)))) is None


def test_only_facts_that_cards_have_can_be_listed() -> None:
    assert names_with("guided") == (
        "THUDM/CogVideoX-2b",
        "THUDM/CogVideoX-5b",
        "THUDM/CogVideoX-5b-I2V",
        "hunyuanvideo-community/HunyuanVideo",
    )
    with pytest.raises(InvalidInputError, match=r"^unknown fact 'aliases'\. Known: 'tracking', "):
        names_with("aliases")
