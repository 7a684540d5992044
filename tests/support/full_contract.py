"""The rest of the contract, for one family of each mechanism: what all others share with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from contract import BOTH, STEPS, FamilyContract, same_state, state_of
from torch import Tensor

from probe import Backbone, Capture, Probe, load_backbone, run_prompt
from store.clips.clip import Clip
from store.errors import InvalidInputError, UnknownLayerError
from store.selection import Selection


class BackboneContract(FamilyContract):
    """Everything: selections, restoring, gradients with checkpointing, kinds of noise, data types and offloading."""

    def test_config_hash_follows_the_configuration(self, backbone: Backbone, fresh: Backbone) -> None:
        before = fresh.config_hash
        assert before == backbone.config_hash
        assert len(before) == 12
        fresh.pipeline.vae.register_to_config(latent_channels=99)
        assert fresh.config_hash != before

    def test_bfloat16(self, fresh: Backbone) -> None:
        fresh.pipeline.to(torch.bfloat16)
        before = self.sample(fresh)
        found: list[Capture] = []
        with Probe(fresh, Selection([-1], "all"), found.append):
            during = self.sample(fresh)
        assert torch.equal(before, during)
        assert {capture.query.dtype for capture in found} == {torch.bfloat16}
        assert fresh.dtype == torch.bfloat16

    def test_fused_projections(self, fresh: Backbone) -> None:
        selection = Selection([-1], "all")
        apart = self.captures(fresh, selection)
        fresh.pipeline.transformer.fuse_qkv_projections()
        processors = [module.processor for _, module in fresh.modules[0]]
        together = self.captures(fresh, selection)
        assert [module.processor for _, module in fresh.modules[0]] == processors
        assert len(apart) == len(together) == len(self.layer_names)
        for one, other in zip(apart, together, strict=True):
            assert torch.allclose(one.query, other.query, atol=1e-5)

    def test_selection_takes_exactly_what_is_asked(self, backbone: Backbone) -> None:
        full = {(c.step, c.layer): c for c in self.captures(backbone, Selection("all", "all"), features=True)}
        part = self.captures(backbone, Selection([-1], [-1], heads=[1], frames=[0, 2]), features=True)
        last = len(self.layer_names) - 1
        assert [(c.step, c.layer) for c in part] == [(STEPS - 1, last)]
        whole = full[STEPS - 1, last]
        assert torch.equal(part[0].query, whole.query[1:][:, [0, 2]])
        assert torch.equal(part[0].key, whole.key[1:][:, [0, 2]])
        assert torch.equal(part[0].features, whole.features[[0, 2]])
        assert part[0].layout.frames == 2
        assert part[0].layout.images_of(1) == whole.layout.images_of(2)
        if whole.text_key is not None:
            assert torch.equal(part[0].text_key, whole.text_key[1:])

    def test_features_hold_every_head(self, backbone: Backbone) -> None:
        found = self.captures(backbone, Selection([0], [0], heads=[1]), features=True)
        assert found[0].features.shape == (*self.grid, self.heads * self.channels)

    @pytest.mark.parametrize(
        ("selection", "message"),
        [
            (Selection([0], [9]), "layer 9 does not exist. The backbone has layers 0 to {last}."),
            (Selection([0], [0], heads=[2]), "head 2 does not exist. The backbone has heads 0 to 1."),
            (Selection([2], [0]), "step 2 does not exist. The run has steps 0 to 1."),
        ],
    )
    def test_what_does_not_exist_is_refused_before_the_model_runs(
        self, backbone: Backbone, selection: Selection, message: str
    ) -> None:
        with pytest.raises(UnknownLayerError) as caught:
            Probe(backbone, selection, print, steps=STEPS)
        assert str(caught.value) == message.format(last=len(self.layer_names) - 1)

    def test_everything_is_restored_after_normal_exit(self, backbone: Backbone) -> None:
        before = state_of(backbone)
        with Probe(backbone, Selection("all", "all"), print):
            assert all(now is not original for now, original in zip(state_of(backbone)[0], before[0], strict=True)), (
                "every layer is tapped"
            )
        assert same_state(state_of(backbone), before)

    @pytest.mark.parametrize("where", ["sink", "body", "model"])
    def test_everything_is_restored_after_an_exception(self, backbone: Backbone, where: str) -> None:
        before = state_of(backbone)

        def sink(capture: Capture) -> None:
            if where == "sink":
                raise RuntimeError("on purpose")

        def probed_run(stack: ExitStack) -> None:
            if where == "model":
                _, last = backbone.modules[0][-1]
                stack.callback(last.register_forward_hook(_raise).remove)
            stack.enter_context(Probe(backbone, Selection("all", "all"), sink))
            self.sample(backbone)
            raise RuntimeError("on purpose")

        with pytest.raises(RuntimeError, match="on purpose"), ExitStack() as stack:
            probed_run(stack)
        assert same_state(state_of(backbone), before)
        assert backbone.call_label is None
        assert len(self.captures(backbone, Selection([0], [0]))) == 1

    def test_gradients_with_checkpointing_are_those_without_the_tap(self, fresh: Backbone) -> None:
        self.check_gradients(fresh, checkpointing=True)

    def test_a_loss_on_captured_queries_and_keys_reaches_the_latents(self, fresh: Backbone) -> None:
        forward, noise = self.forward(fresh), self.noise(fresh)
        found = []
        for checkpointing in (False, True):
            if checkpointing:
                fresh.pipeline.transformer.enable_gradient_checkpointing()
                fresh.pipeline.transformer.train()
            losses: list[Tensor] = []
            sink: Callable[[Capture], None] = lambda c, to=losses: to.append((c.query * c.key).sum())  # noqa: E731
            latents = noise.clone().requires_grad_()
            with Probe(fresh, Selection([0], "all"), sink):
                forward.predict(latents, 0)
            torch.stack(losses).sum().backward()
            found.append(latents.grad)
        assert found[0].abs().max() > 0
        assert torch.allclose(found[0], found[1], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("noise", ["clean", "forward", "inversion"])
    def test_what_is_seen_at_a_step_does_not_depend_on_the_selection(
        self, backbone: Backbone, clip: Clip, noise: Any
    ) -> None:
        many = self.see_clip(backbone, clip, [1, 3], noise=noise)
        for step in (1, 3):
            (one,) = self.see_clip(backbone, clip, [step], noise=noise).values()
            assert torch.equal(one.query, many[step, "cond"].query)

    def test_kinds_of_noise_differ_and_seeds_matter_to_forward_noise_alone(
        self, backbone: Backbone, clip: Clip
    ) -> None:
        keys = {
            (noise, seed): self.see_clip(backbone, clip, [1], noise=noise, seed=seed)[1, "cond"].key
            for noise in ("clean", "forward", "inversion")
            for seed in (0, 1)
        }
        assert torch.equal(keys["clean", 0], keys["clean", 1])
        assert torch.equal(keys["inversion", 0], keys["inversion", 1])
        for one, other in ([("forward", 0), ("forward", 1)], [("clean", 0), ("forward", 0)]):
            assert not torch.allclose(keys[one], keys[other], atol=1e-2)
        assert not torch.allclose(keys["clean", 0], keys["inversion", 0], atol=1e-3)

    def test_clean_means_the_latents_themselves_at_the_steps_timestep(self, backbone: Backbone, clip: Clip) -> None:
        (capture,) = self.see_clip(backbone, clip, [3], noise="clean").values()
        found: list[Capture] = []
        with torch.no_grad(), Probe(backbone, Selection([3], [1]), found.append, steps=5):
            self.forward(backbone, steps=5).predict(backbone.encode(clip), 3)
        assert torch.equal(found[0].query, capture.query)

    def test_a_run_whose_clip_is_not_wanted_ends_after_the_last_selected_step(self, backbone: Backbone) -> None:
        progress: list[tuple[int, int]] = []
        found: list[Capture] = []
        clip = run_prompt(
            backbone,
            None,
            Selection([0, 1], [0]),
            found.append,
            steps=5,
            want_clip=False,
            conditioning=self.conditioning(),
            on_step=lambda done, total: progress.append((done, total)),
            **self.size,
        )
        assert clip is None
        assert progress == [(1, 2), (2, 2)]
        assert [c.step for c in found] == [0, 1]

    def test_the_unconditional_branch_of_an_unguided_run_is_refused(self, backbone: Backbone) -> None:
        options: dict[str, Any] = {
            "steps": STEPS,
            "conditioning": {**self.conditioning(), **self.unguided},
            **self.size,
        }
        with pytest.raises(InvalidInputError) as caught:
            run_prompt(backbone, None, Selection([0], [0], BOTH), print, **options)
        assert str(caught.value).startswith(
            "branch 'uncond' was selected, but this run has no classifier-free guidance, so only 'cond' exists. Pass "
        )

    @pytest.mark.parametrize("kind", ["model", "sequential"])
    def test_works_while_parts_are_offloaded(self, fresh: Backbone, clip: Clip, kind: str) -> None:
        expected = self.captures(fresh, Selection([0], "all"))
        if kind == "model":
            fresh.pipeline.enable_model_cpu_offload(device="cpu")
        else:  # the pipeline's own method fails on a machine without an accelerator
            for part in (fresh.pipeline.vae, fresh.pipeline.transformer):
                cpu_offload(part, torch.device("cpu"), state_dict=OffloadedWeights(part.state_dict()))
            assert fresh.pipeline.transformer.proj_out.weight.is_meta
        before = state_of(fresh)
        offloaded = load_backbone(fresh.pipeline, device="cpu")
        found = self.captures(offloaded, Selection([0], "all"))
        for one, other in zip(expected, found, strict=True):
            assert torch.equal(one.query, other.query)
        assert set(self.see_clip(offloaded, clip, [0])) == {(0, "cond")}
        assert same_state(state_of(fresh), before)


class OffloadedWeights(dict):  # type: ignore[type-arg]
    """Offloaded weights of which every access is a parameter of its own."""

    def __getitem__(self, name: str) -> torch.nn.Parameter:
        return torch.nn.Parameter(super().__getitem__(name).clone(), requires_grad=False)


def _raise(*arguments: Any) -> None:
    raise RuntimeError("on purpose")
