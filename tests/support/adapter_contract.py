"""What every adapter must do on every family; each kind's tests subclass it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from guided import backbone_of, check_same_state, latents_of, plain_latents, state_of
from tiny_families import FAMILIES, Family
from torch import Tensor

from generators.adapters.adapter import MotionAdapter
from generators.adapters.files import load_adapter, save_adapter
from generators.adapters.fitted import AttachAdapter
from generators.sampling.freezing import frozen_weights, gradient_checkpointing
from probe import Backbone, ForwardPass
from probe.backbones.geometry import Size
from store.errors import InvalidInputError, ProbeStateError, UnknownLayerError


def disturb(adapter: MotionAdapter, seed: int = 1) -> MotionAdapter:
    """Parameters as a training would leave them: none is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return adapter


def size_of(family: Family) -> Size:
    return Size(family.size["height"], family.size["width"], family.size["images"])


@functools.cache
def forward_of(name: str) -> tuple[ForwardPass, Tensor]:
    """A forward pass of a family, made while nothing is attached, and noise that it takes."""
    family, backbone = FAMILIES[name], backbone_of(name)
    conditioning = {**family.conditioning, **family.unguided}
    forward = ForwardPass(backbone, family.prompt, steps=10, conditioning=conditioning, **family.size)
    given = next(iter(forward._calls.values()))[1]["hidden_states"]
    return forward, torch.randn(given.shape, generator=torch.Generator().manual_seed(3))


@contextmanager
def attention_outputs(backbone: Backbone, layer: int) -> Iterator[list[Any]]:
    """What the attention of a layer returns in each call."""
    found: list[Any] = []
    hook = backbone.modules[0][layer][1].register_forward_hook(lambda module, args, output: found.append(output))
    try:
        yield found
    finally:
        hook.remove()


@pytest.mark.parametrize("name", list(FAMILIES))
class AdapterContract:
    """Subclasses say how their adapter is made; every test runs on every family."""

    of_text: ClassVar[bool] = False
    """Whether it changes text tokens as well as those of the video."""

    def make(self, backbone: Backbone, size: Size, **options: Any) -> MotionAdapter:
        raise NotImplementedError

    def new(self, name: str, **options: Any) -> MotionAdapter:
        return self.make(backbone_of(name), size_of(FAMILIES[name]), **options)

    def test_untrained_it_changes_nothing_to_the_bit_and_leaves_nothing(self, name: str) -> None:
        family, backbone = FAMILIES[name], backbone_of(name)
        plain, before = plain_latents(name, 2, guided=True), state_of(backbone)
        found = latents_of(family, backbone, AttachAdapter(self.new(name)), guided=True, steps=2)
        assert torch.equal(found, plain)
        check_same_state(state_of(backbone), before)

    def test_trained_it_changes_the_sample_and_detached_it_does_not(self, name: str) -> None:
        family, backbone = FAMILIES[name], backbone_of(name)
        plain = plain_latents(name, 1)
        found = latents_of(family, backbone, AttachAdapter(disturb(self.new(name))), steps=1)
        assert not torch.equal(found, plain)
        assert torch.equal(latents_of(family, backbone, steps=1), plain)

    def test_an_exception_leaves_nothing_behind(self, name: str) -> None:
        backbone = backbone_of(name)
        adapter, before = self.new(name), state_of(backbone)
        with pytest.raises(ZeroDivisionError), adapter.attached(backbone):
            1 / 0  # noqa: B018
        check_same_state(state_of(backbone), before)
        with adapter.attached(backbone):
            pass

    def test_every_parameter_gets_a_gradient_with_and_without_checkpointing(self, name: str) -> None:
        backbone = backbone_of(name)
        forward, noise = forward_of(name)
        adapter = disturb(self.new(name))
        gradients = []
        for checkpointing in (False, True):
            adapter.zero_grad()
            with ExitStack() as stack:
                for denoiser in backbone.denoisers:
                    stack.enter_context(frozen_weights(denoiser))
                    if checkpointing:
                        stack.enter_context(gradient_checkpointing(denoiser))
                stack.enter_context(adapter.attached(backbone))
                forward.predict(noise, 5)["cond"].square().mean().backward()
            gradients.append({key: each.grad.clone() for key, each in adapter.named_parameters()})
        assert all(bool((gradient != 0).any()) for gradient in gradients[0].values())
        for key, gradient in gradients[0].items():
            assert torch.allclose(gradient, gradients[1][key], atol=1e-6, rtol=1e-4), key

    def test_a_file_gives_back_the_same_adapter(self, name: str, tmp_path: Path) -> None:
        backbone = backbone_of(name)
        forward, noise = forward_of(name)
        adapter = disturb(self.new(name, layers=[-1]))
        adapter.details = {"reference": "ab12"}
        loaded = load_adapter(save_adapter(adapter, tmp_path / "motion.safetensors"), backbone)
        assert (loaded.layers, loaded.settings, loaded.size) == (adapter.layers, adapter.settings, adapter.size)
        assert loaded.details == {"reference": "ab12"}
        with torch.no_grad():
            found = []
            for each in (adapter, loaded):
                with each.attached(backbone):
                    found.append(forward.predict(noise, 5)["cond"])
        assert torch.equal(found[0], found[1])

    def test_only_kept_layers_add(self, name: str) -> None:
        backbone = backbone_of(name)
        forward, noise = forward_of(name)
        adapter, last = disturb(self.new(name)), len(backbone.layers) - 1
        with torch.no_grad():
            plain = forward.predict(noise, 5)["cond"]
            with adapter.attached(backbone, keep=0.0):
                assert torch.equal(forward.predict(noise, 5)["cond"], plain)
            with attention_outputs(backbone, 0) as kept, adapter.attached(backbone, layers=[last]):
                late = forward.predict(noise, 5)["cond"]
            with attention_outputs(backbone, 0) as untouched:
                forward.predict(noise, 5)
        assert not torch.equal(late, plain)
        assert torch.equal(_video(kept[0]), _video(untouched[0]))

    def test_text_is_left_alone_unless_it_says_otherwise(self, name: str) -> None:
        backbone = backbone_of(name)
        forward, noise = forward_of(name)
        adapter = disturb(self.new(name))
        found = []
        with torch.no_grad():
            for kept in ([], [0]):
                with adapter.attached(backbone, layers=kept or None, keep=None) if kept else ExitStack():
                    inputs: list[Tensor] = []
                    hook = backbone.modules[0][0][1].register_forward_hook(lambda m, a, o, to=inputs: to.append(o))
                    forward.predict(noise, 5)
                    hook.remove()
                    found.append(inputs[0])
        if not isinstance(found[0], tuple):
            pytest.skip("text takes no part in this attention")
        same = torch.equal(found[0][1], found[1][1])
        assert same or self.of_text

    def test_two_at_once_add_up_and_one_is_not_attached_twice(self, name: str) -> None:
        backbone = backbone_of(name)
        forward, noise = forward_of(name)
        first, second = disturb(self.new(name), 1), disturb(self.new(name), 2)
        found = []
        with torch.no_grad():
            for order in ((first, second), (second, first)):
                with order[0].attached(backbone), order[1].attached(backbone):
                    found.append(forward.predict(noise, 5)["cond"])
            with first.attached(backbone):
                alone = forward.predict(noise, 5)["cond"]
                with pytest.raises(ProbeStateError, match="attached already"), first.attached(backbone):
                    pass
        assert torch.allclose(found[0], found[1], atol=1e-4)
        assert not torch.allclose(found[0], alone, atol=1e-3)

    def test_another_backbone_is_refused_with_the_reason(self, name: str) -> None:
        other = next(each for each in FAMILIES if FAMILIES[each].make is not FAMILIES[name].make)
        adapter, before = self.new(name), state_of(backbone_of(other))
        with (
            pytest.raises(InvalidInputError, match=r"was trained on .*, but .* has "),
            adapter.attached(backbone_of(other)),
        ):
            pass
        check_same_state(state_of(backbone_of(other)), before)

    def test_unknown_layers_and_fractions_are_refused(self, name: str) -> None:
        adapter = self.new(name)
        with pytest.raises(UnknownLayerError):
            self.new(name, layers=[99])
        with pytest.raises(UnknownLayerError):
            adapter.kept([99])
        for keep in (-0.1, 1.5):
            with pytest.raises(InvalidInputError, match="keep must lie between 0 and 1"):
                adapter.kept(keep=keep)
        with pytest.raises(InvalidInputError, match="layer 0 has no parameters"):
            self.new(name, layers=[1]).kept([0])


def _video(output: Any) -> Tensor:
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found
