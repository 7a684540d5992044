"""Every kind of adapter on every tiny family, and what is special to each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from adapter_contract import AdapterContract, disturb, forward_of
from full_contract import OffloadedWeights
from guided import backbone_of
from tiny_families import FAMILIES
from torch import Tensor, nn
from torch.nn.functional import gelu

from generators.adapters.adapter import MotionAdapter
from generators.adapters.arms import LocalAttention, SpaceTimeKernel, TokenMLP, _Windows
from generators.adapters.files import load_adapter, save_adapter
from generators.adapters.lora import LoRA
from generators.adapters.motion_inversion import MotionInversion
from generators.adapters.temporal_kernel import TemporalConvolutions, TemporalKernel
from probe import Backbone, ForwardPass
from probe.backbones.geometry import Size
from store.errors import InvalidInputError, UnsupportedBackboneError


class TestTemporalKernel(AdapterContract):
    def make(self, backbone: Backbone, size: Size, **options: Any) -> MotionAdapter:
        return TemporalKernel(backbone, width=4, **options)


class TestTemporalKernelOfProjections(AdapterContract):
    def make(self, backbone: Backbone, size: Size, **options: Any) -> MotionAdapter:
        return TemporalKernel(backbone, width=4, place="qkv", **options)

    of_text = True  # its text attends to changed keys and values of the video


class TestSpaceTimeKernel(AdapterContract):
    def make(self, backbone: Backbone, size: Size, **options: Any) -> MotionAdapter:
        return SpaceTimeKernel(backbone, width=4, **options)


class TestTokenMLP(AdapterContract):
    def make(self, backbone: Backbone, size: Size, **options: Any) -> MotionAdapter:
        return TokenMLP(backbone, width=4, **options)


class TestLocalAttention(AdapterContract):
    def make(self, backbone: Backbone, size: Size, **options: Any) -> MotionAdapter:
        return LocalAttention(backbone, width=4, window=(2, 2, 3), **options)


class TestLoRA(AdapterContract):
    of_text = True

    def make(self, backbone: Backbone, size: Size, **options: Any) -> MotionAdapter:
        return LoRA(backbone, rank=2, **options)


class TestMotionInversion(AdapterContract):
    of_text = True

    def make(self, backbone: Backbone, size: Size, **options: Any) -> MotionAdapter:
        return MotionInversion(backbone, size=size, **options)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_oracle_temporal_convolutions_are_sums_over_frames(kernel: int) -> None:
    block = TemporalConvolutions(5, 4, kernel).double()
    nn.init.normal_(block.up.weight)
    video = torch.randn(2, 6, 3, 2, 5, dtype=torch.float64)
    expected = _convolved(gelu(_convolved(video, block.down.weight)), block.up.weight)
    assert torch.allclose(block(video), expected, atol=1e-12)


def _convolved(video: Tensor, weight: Tensor) -> Tensor:
    """Sum over j of I[i + j] K_j, zero beyond the clip, one frame and cell at a time."""
    frames, reach = video.shape[1], weight.shape[2] // 2
    found = torch.zeros(*video.shape[:-1], weight.shape[0], dtype=video.dtype)
    for frame in range(frames):
        for offset in range(-reach, reach + 1):
            if 0 <= frame + offset < frames:
                found[:, frame] += video[:, frame + offset] @ weight[:, :, offset + reach].T
    return found


def test_temporal_kernel_commutes_with_permuted_cells() -> None:
    block = TemporalConvolutions(5, 4, 3)
    nn.init.normal_(block.up.weight)
    video, order = torch.randn(1, 4, 6, 1, 5), torch.randperm(6)
    assert torch.allclose(block(video[:, :, order]), block(video)[:, :, order], atol=1e-6)


def test_temporal_kernel_of_a_static_clip_has_equal_interior_frames() -> None:
    block = TemporalConvolutions(5, 4, 3)
    nn.init.normal_(block.up.weight)
    found = block(torch.randn(1, 1, 2, 3, 5).expand(1, 8, 2, 3, 5))
    assert torch.allclose(found[:, 2:6], found[:, 2:3].expand_as(found[:, 2:6]), atol=1e-6)
    assert not torch.allclose(found[:, 0], found[:, 3], atol=1e-3)


@pytest.mark.parametrize("name", ["cogvideox added", "wan", "hunyuan"])
def test_oracle_kernel_adds_to_the_output_of_attention_alone(name: str) -> None:
    backbone = backbone_of(name)
    forward, noise = forward_of(name)
    adapter = disturb(TemporalKernel(backbone, width=4))
    layer = len(backbone.layers) - 1
    calls: list[tuple[Tensor, Any]] = []

    def keep(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        calls.append((kwargs.get("hidden_states", args[0] if args else None), output))

    with torch.no_grad():
        for attached in (False, True):
            hook = backbone.modules[0][layer][1].register_forward_hook(keep, with_kwargs=True, prepend=not attached)
            if attached:
                with adapter.attached(backbone, layers=[layer]):
                    forward.predict(noise, 5)
            else:
                forward.predict(noise, 5)
            hook.remove()
    plain, changed = ((output[0] if isinstance(output, tuple) else output) for _, output in calls)
    block: Any = adapter.denoisers[0][str(layer)]  # type: ignore[index]
    video = calls[0][0].unflatten(1, (3, 5, 7))
    with torch.no_grad():
        expected = _convolved(gelu(_convolved(video, block.down.weight)), block.up.weight).flatten(1, 3)
    # the hook that keeps was registered before the adapter's, so it sees the output without what is added
    hooked = changed if not torch.equal(plain, changed) else plain + expected
    assert torch.allclose(hooked, plain + expected, atol=1e-5)


def test_kernel_must_be_odd_and_places_known() -> None:
    backbone = backbone_of("mini")
    with pytest.raises(InvalidInputError, match="kernel must be odd"):
        TemporalKernel(backbone, kernel=4)
    with pytest.raises(InvalidInputError, match="unknown place"):
        TemporalKernel(backbone, place="output")  # type: ignore[arg-type]


def test_oracle_local_attention_is_attention_within_each_window() -> None:
    block = _Windows(5, 4, (2, 2, 3)).double()
    nn.init.normal_(block.out.weight)
    video = torch.randn(2, 3, 5, 7, 5, dtype=torch.float64)
    found = block(video)
    query, key, value = block.into(video).chunk(3, -1)
    expected = torch.zeros_like(found)
    for batch in range(2):
        for f in range(0, 3, 2):
            for y in range(0, 5, 2):
                for x in range(0, 7, 3):
                    part = (batch, slice(f, f + 2), slice(y, y + 2), slice(x, x + 3))
                    q, k, v = (each[part].reshape(-1, 4) for each in (query, key, value))
                    mixed = torch.softmax(q @ k.T / 2, -1) @ v
                    expected[part] = block.out(mixed).view(expected[part].shape)
    assert torch.allclose(found, expected, atol=1e-10)


def test_motion_inversion_without_cells_shares_its_frames(tmp_path: Path) -> None:
    backbone = backbone_of("wan")
    forward, noise = forward_of("wan")
    adapter = disturb(MotionInversion(backbone, size=Size(80, 112, 9)))
    frames_alone = adapter.without_cells()
    assert not [name for name, _ in frames_alone.named_parameters() if name.endswith("cells")]
    assert [name for name, _ in adapter.named_parameters() if name.endswith("cells")]
    loaded = load_adapter(save_adapter(frames_alone, tmp_path / "frames.safetensors"), backbone)
    with torch.no_grad():
        for (name, here), (same, there) in zip(loaded.named_parameters(), frames_alone.named_parameters(), strict=True):
            assert name == same
            assert torch.equal(here, there)
        found = []
        for each in (adapter, frames_alone):
            with each.attached(backbone):
                found.append(forward.predict(noise, 5)["cond"])
        for name, parameter in adapter.named_parameters():
            if name.endswith("cells"):
                parameter.zero_()
        with adapter.attached(backbone):
            assert torch.allclose(forward.predict(noise, 5)["cond"], found[1], atol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_motion_inversion_refuses_clips_of_another_size() -> None:
    backbone = backbone_of("wan")
    forward, noise = forward_of("wan")
    adapter = MotionInversion(backbone, size=Size(64, 112, 9))
    with pytest.raises(InvalidInputError, match="Generate clips of the size"), adapter.attached(backbone):
        forward.predict(noise, 5)


def test_fused_projections_are_refused_where_one_of_them_is_changed() -> None:
    backbone = FAMILIES["wan"].backbone()
    backbone.pipeline.transformer.fuse_qkv_projections()
    with (
        pytest.raises(UnsupportedBackboneError, match="unfuse_qkv_projections"),
        LoRA(backbone, rank=2).attached(backbone),
    ):
        pass
    with TemporalKernel(backbone, width=4).attached(backbone):
        pass


def test_offloaded_weights_take_an_adapter() -> None:
    family, resident = FAMILIES["cogvideox added"], backbone_of("cogvideox added")
    forward, noise = forward_of("cogvideox added")
    adapter = disturb(TemporalKernel(resident, width=4))
    with torch.no_grad(), adapter.attached(resident):
        expected = forward.predict(noise, 5)["cond"]
    backbone = family.backbone()
    for part in (backbone.pipeline.vae, backbone.pipeline.transformer):
        cpu_offload(part, torch.device("cpu"), state_dict=OffloadedWeights(part.state_dict()))
    options = {**family.conditioning, **family.unguided}
    offloaded = ForwardPass(backbone, family.prompt, steps=10, conditioning=options, **family.size)
    with torch.no_grad(), adapter.attached(backbone):
        assert torch.allclose(offloaded.predict(noise, 5)["cond"], expected, atol=1e-6)
