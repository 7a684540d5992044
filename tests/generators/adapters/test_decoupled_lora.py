"""LoRA by groups of heads: the contract, and that no group touches the rows of another."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from adapter_contract import AdapterContract, disturb, forward_of
from guided import backbone_of
from tiny_families import FAMILIES

from generators.adapters.adapter import MotionAdapter
from generators.adapters.decoupled.lora import DecoupledLoRA
from generators.adapters.lora import PROJECTIONS, LoRA, peft_state
from probe import Backbone, ForwardPass
from probe.attention.projections import projection
from probe.backbones.geometry import Size
from store.errors import InvalidInputError


def halves(backbone: Backbone) -> dict[str, list[list[int]]]:
    """The first head of each layer, and the others."""
    return {
        "spatial": [[0] for _ in backbone.layers],
        "temporal": [list(range(1, layer.heads)) for layer in backbone.layers],
    }


def new(name: str, **options: Any) -> DecoupledLoRA:
    backbone = backbone_of(name)
    return DecoupledLoRA(backbone, heads=halves(backbone), rank=2, **options)


class TestDecoupledLoRA(AdapterContract):
    of_text = True

    def make(self, backbone: Backbone, size: Size, **options: Any) -> MotionAdapter:
        return DecoupledLoRA(backbone, heads=halves(backbone), rank=2, projections=tuple(PROJECTIONS), **options)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_no_group_changes_the_rows_of_another_to_the_bit(name: str) -> None:
    backbone = backbone_of(name)
    forward, noise = forward_of(name)
    adapter = disturb(new(name, layers=[0]))
    module = backbone.modules[0][0][1]
    channels = backbone.layers[0].channels
    outputs: dict[str, list[torch.Tensor]] = {key: [] for key in "qkv"}
    hooks = []

    def keep(key: str) -> Any:
        return lambda module, args, output: outputs[key].append(output.clone())

    with torch.no_grad():
        for groups in ((), ("spatial",), ("temporal",), ("spatial", "temporal")):
            attached = adapter.only(*groups).attached(backbone) if groups else None
            if attached:
                attached.__enter__()
            hooks = [projection(module, PROJECTIONS[key]).register_forward_hook(keep(key)) for key in "qkv"]
            forward.predict(noise, 5)
            for hook in hooks:
                hook.remove()
            if attached:
                attached.__exit__(None, None, None)
    first, rest = slice(0, channels), slice(channels, None)
    for key, (plain, spatial, temporal, both) in outputs.items():
        assert torch.equal(spatial[..., rest], plain[..., rest]), key
        assert torch.equal(temporal[..., first], plain[..., first]), key
        assert not torch.equal(spatial[..., first], plain[..., first])
        assert not torch.equal(temporal[..., rest], plain[..., rest])
        assert torch.equal(both[..., first], spatial[..., first])
        assert torch.equal(both[..., rest], temporal[..., rest])


@pytest.mark.parametrize("projections", [("q", "k", "v"), ("out",)])
def test_oracle_groups_of_equal_matrices_are_a_masked_lora(projections: tuple[str, ...]) -> None:
    """With A shared by both groups and B cut by rows (of outputs: A by columns), both together are one LoRA."""
    backbone = backbone_of("wan")
    forward, noise = forward_of("wan")
    whole = LoRA(backbone, rank=2, projections=projections)
    torch.manual_seed(0)
    for parameter in whole.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    split = DecoupledLoRA(backbone, heads=halves(backbone), rank=2, projections=projections)
    with torch.no_grad():
        for layer in split.layers:
            for pairs in split.denoisers[0][str(layer)].values():  # type: ignore[index]
                for key, pair in pairs.items():
                    theirs: Any = whole.denoisers[0][str(layer)][key]  # type: ignore[index]
                    places = pair.places
                    pair.a.weight.copy_(theirs.a.weight[:, places] if key == "out" else theirs.a.weight)
                    pair.b.weight.copy_(theirs.b.weight if key == "out" else theirs.b.weight[places])
        found = []
        for each in (whole, split):
            with each.attached(backbone):
                found.append(forward.predict(noise, 5)["cond"])
    assert torch.allclose(found[0], found[1], atol=1e-5)


def test_parts_of_an_adapter_share_its_parameters_and_leave_it_whole() -> None:
    adapter = disturb(new("mini"))
    names = set(adapter.state_dict())
    part = adapter.only("temporal")
    assert part.groups == ("temporal",)
    assert adapter.groups == ("spatial", "temporal")
    assert set(adapter.state_dict()) == names
    assert set(part.state_dict()) < names
    assert {id(each) for each in part.parameters()} == {id(each) for each in adapter.parameters_of("temporal")}
    apart = [set(map(id, adapter.parameters_of(name))) for name in adapter.groups]
    assert not apart[0] & apart[1]
    assert len(apart[0] | apart[1]) == len(list(adapter.parameters()))


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({"a": [[0]]}, "lists the heads of 1 layers"),
        ({"a": [[9], [0]]}, "a head of group 'a' in layer 0 must lie"),
        ({"a": [[0, 0], [0]]}, "names a head of layer 0 twice"),
        ({"a": [[], []]}, "nothing can be trained"),
        ({"a.b": [[0], [0]]}, "must be a plain word"),
        ({}, "nothing can be trained"),
    ],
)
def test_groups_that_cannot_be_are_refused(heads: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        DecoupledLoRA(backbone_of("mini"), heads=heads)


def test_layers_without_heads_and_unknown_groups_are_refused() -> None:
    heads = {"spatial": [[0], []], "temporal": [[1], []]}
    with pytest.raises(InvalidInputError, match="no head of the chosen layers"):
        DecoupledLoRA(backbone_of("mini"), heads=heads, layers=[1])
    adapter = DecoupledLoRA(backbone_of("mini"), heads=heads)
    for call in (lambda: adapter.only("text"), lambda: adapter.only(), lambda: adapter.parameters_of("text")):
        with pytest.raises(InvalidInputError, match="there is no group"):
            call()


@pytest.mark.parametrize("name", ["wan", "cogvideox rotary"])
def test_oracle_lora_is_that_of_peft(name: str) -> None:
    """The same matrices given to peft's own layers through diffusers give the same prediction."""
    pytest.importorskip("peft")
    backbone = FAMILIES[name].backbone()
    forward, noise = forward_of(name)
    adapter = LoRA(backbone, rank=3)
    disturb(adapter)
    with torch.no_grad():
        plain = forward.predict(noise, 5)["cond"]
        ours_backbone = backbone_of(name)
        ours = LoRA(ours_backbone, rank=3)
        ours.load_state_dict(adapter.state_dict())
        with ours.attached(ours_backbone):
            found = forward.predict(noise, 5)["cond"]
        family = FAMILIES[name]
        backbone.pipeline.transformer.load_lora_adapter(peft_state(adapter, backbone), prefix=None)
        theirs = ForwardPass(
            backbone, family.prompt, steps=10, conditioning={**family.conditioning, **family.unguided}, **family.size
        ).predict(noise, 5)["cond"]
    assert torch.allclose(found, theirs, atol=1e-5)
    assert not torch.allclose(found, plain, atol=1e-3)
