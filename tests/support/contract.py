"""What every family of backbones must do; each family's tests subclass it on a tiny random pipeline."""

from __future__ import annotations

import functools
from contextlib import ExitStack
from typing import Any, ClassVar

import pytest
import torch
from device_paths import on_device
from pretend_cuda import PretendCUDA
from remembered import remember
from restored import same_state, state_of
from tiny_pipelines import SIZE
from torch import Tensor

from probe import Backbone, Capture, ForwardPass, Probe, load_backbone, run_clip, run_prompt, run_states
from probe.attention.edit import AttentionEdit
from probe.attention.projections import projection
from probe.attention.wrapping import named_arguments
from probe.backbones.geometry import Size
from probe.families.matrix import replaces_positions
from store.clips.clip import Clip
from store.errors import InvalidInputError, UnsupportedBackboneError
from store.layout import TokenLayout
from store.selection import Selection

BOTH = ("cond", "uncond")
STEPS = 2
NOISE: dict[tuple[Any, ...], Tensor] = {}


class FamilyContract:
    """The part that every family passes.

    Subclasses name the pipeline, its conditioning, its layers, and how guidance is switched on.
    """

    layer_names: tuple[str, ...]
    size: ClassVar[dict[str, int]] = SIZE
    grid: ClassVar[tuple[int, int, int]] = (3, 5, 7)
    """Frames, rows and columns of the tokens at this size."""
    spans: ClassVar[list[range]] = [range(1), range(1, 5), range(5, 9)]
    heads: int = 2
    channels: int
    text_counts: tuple[int, ...]
    """Text tokens of prompt 0, of prompt 1 and of the negative prompt."""
    waits_a_run: ClassVar[int] = 1
    """Times that a probe waits for an accelerator in a run, however long: for timesteps and for masks of the text."""
    guided: ClassVar[dict[str, Any]] = {"guidance_scale": 4.0}
    unguided: ClassVar[dict[str, Any]] = {"guidance_scale": 1.0}
    replay_tolerance: ClassVar[float] = 0.0
    """Of a prediction of a forward pass against the pipeline's."""
    batch_tolerance: ClassVar[float] = 1e-5
    """Of a query in a batch against alone: more where the model rounds within its layers."""

    @classmethod
    def make_pipeline(cls) -> Any:
        raise NotImplementedError

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        """Pipeline arguments for the prompts of these numbers, and the same negative prompt for each."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def backbone(cls) -> Backbone:
        backbone = load_backbone(cls.make_pipeline())
        remember(backbone.pipeline.vae)
        backbone.encode = functools.cache(backbone.encode)
        return backbone

    @pytest.fixture
    def fresh(self) -> Backbone:
        """A backbone that a test may change."""
        return load_backbone(self.make_pipeline())

    @pytest.fixture(scope="class")
    @classmethod
    def clip(cls) -> Clip:
        generator = torch.Generator().manual_seed(7)
        coarse = torch.rand(cls.size["images"], 3, 5, 7, generator=generator)
        images = torch.nn.functional.interpolate(coarse, size=(cls.size["height"], cls.size["width"]), mode="bilinear")
        return Clip((images * 255).byte().permute(0, 2, 3, 1).contiguous().numpy(), fps=8, prompt="a clip")

    def sample(
        self,
        backbone: Backbone,
        *,
        guided: bool = False,
        prompts: tuple[int, ...] = (0,),
        latents: Tensor | None = None,
        steps: int = STEPS,
        negative: bool = True,
    ) -> Tensor:
        """Latents that the pipeline itself makes, as a user would call it."""
        given = {} if latents is None else {"latents": self.packed(backbone, latents.clone())}
        arguments = {
            **backbone.size_arguments(Size(**self.size)),
            "num_inference_steps": steps,
            "generator": torch.Generator().manual_seed(0),
            **given,
            **cast(self.conditioning(prompts, negative=negative), backbone.dtype),
            **(self.guided if guided else self.unguided),
        }
        with backbone.prepared_call(arguments) as call:
            result = backbone.pipeline(**call, output_type="latent")
        return self.unpacked(backbone, self.result_of(result))

    @classmethod
    def result_of(cls, output: Any) -> Tensor:
        """Latents in what the pipeline's call returns."""
        return output.frames

    @classmethod
    def packed(cls, backbone: Backbone, latents: Tensor) -> Tensor:
        """Latents as the pipeline's call takes them."""
        return latents

    @classmethod
    def unpacked(cls, backbone: Backbone, latents: Tensor) -> Tensor:
        """Latents in the backbone's layout, for what the pipeline's call returns."""
        return latents

    def captures(self, backbone: Backbone, selection: Selection, **options: Any) -> list[Capture]:
        found: list[Capture] = []
        features = options.pop("features", False)
        with Probe(backbone, selection, found.append, features=features):
            self.sample(backbone, **options)
        return found

    def noise(self, backbone: Backbone, *, batch: int = 1) -> Tensor:
        """Latents of noise, made once for each class, data type and device."""
        key = (type(self), backbone.dtype, backbone.device, batch)
        if key not in NOISE:
            NOISE[key] = self.make_noise(backbone, batch=batch)
        return NOISE[key].clone()

    def make_noise(self, backbone: Backbone, *, batch: int = 1) -> Tensor:
        latents = self.sample(backbone, steps=STEPS)
        return torch.randn((batch, *latents.shape[1:]), generator=torch.Generator().manual_seed(3)).to(latents)

    def test_a_capture_on_another_device_waits_for_nothing(self, fresh: Backbone) -> None:
        remember(fresh.pipeline.vae)
        with PretendCUDA() as device:
            backbone = load_backbone(fresh.pipeline, device="cuda")
            own = self.conditioning
            self.conditioning = lambda *args, **options: on_device(  # type: ignore[method-assign]
                own(*args, **options), "cuda", backbone.dtype
            )
            self.sample(backbone)
            device.reset()
            self.sample(backbone)
            plain, found = sum(device.waits.values()), []
            device.reset()
            with Probe(backbone, Selection("all", "all"), found.append, features=True):
                self.sample(backbone)
            assert {capture.query.device for capture in found} == {torch.device("cuda", 0)}
        assert sum(device.waits.values()) - plain <= self.waits_a_run

    # What it is ---------------------------------------------------------------------------------------------------

    def test_layers_are_all_self_attention_blocks_in_execution_order(self, backbone: Backbone) -> None:
        assert tuple(layer.name for layer in backbone.layers) == self.layer_names
        assert [layer.index for layer in backbone.layers] == list(range(len(self.layer_names)))
        assert {(layer.heads, layer.channels) for layer in backbone.layers} == {(self.heads, self.channels)}

    def test_layout_is_that_of_the_latents(self, backbone: Backbone, clip: Clip) -> None:
        layout = backbone.layout(**self.size)
        assert layout == TokenLayout(*self.grid, *self.size.values(), layout.text_tokens, self.spans)
        assert backbone.encode(clip).shape == self.noise(backbone).shape

    def test_decode_gives_back_a_clip_of_the_same_size(self, backbone: Backbone, clip: Clip) -> None:
        assert backbone.decode(backbone.encode(clip)).images.shape == clip.images.shape

    def test_scaling_of_latents_is_undone(self, backbone: Backbone) -> None:
        latents = self.noise(backbone)
        assert torch.allclose(
            backbone.scale_latents(backbone.unscale_latents(latents, self.size["images"])), latents, atol=1e-5
        )

    def test_schedule_is_the_pipelines_own(self, backbone: Backbone) -> None:
        self.sample(backbone, steps=3)
        own = backbone.pipeline.scheduler
        schedule = backbone.schedule(3, Size(**self.size))
        assert schedule.timesteps == tuple(float(t) for t in own.timesteps)
        assert len(schedule.noise) == 4
        assert schedule.noise[0] > schedule.noise[-2]

    # What it captures ---------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("guided", [False, True])
    def test_oracle_captured_tensors_give_the_modules_own_attention_output(
        self, backbone: Backbone, guided: bool
    ) -> None:
        watched: list[tuple[Capture, Tensor, Tensor]] = []
        seen: dict[str, list[Tensor]] = {}
        with ExitStack() as stack:
            for name, module in backbone.modules[0]:
                self.watch(stack, module, seen.setdefault(name, []))
            found = self.captures(backbone, Selection([0], "all", BOTH), guided=guided, features=True)
        for capture in found:
            values, output = self._own(backbone, seen[capture.layer_name], capture, guided)
            watched.append((capture, values, output))
        assert len(watched) == len(self.layer_names) * (1 + guided)
        for capture, values, output in watched:
            expected = self.attended(capture, values)
            assert torch.allclose(expected, output, atol=2e-5), capture
            assert torch.allclose(capture.features.flatten(0, 2), output, atol=1e-6)

    def _own(self, backbone: Backbone, tensors: list[Any], capture: Capture, guided: bool) -> tuple[Tensor, Tensor]:
        """Values (token, head, channel) of text then video, and the output of the video tokens, from module hooks."""
        calls = [call for call in tensors if call]
        call, index = calls[0], 0
        if guided and backbone.guidance == "batch":
            index = int(capture.branch == "cond")
        elif guided:
            call = calls[int(capture.branch == "uncond")]
        values = torch.cat([part[index] for part in call["values"]])
        video, text = capture.layout.video_tokens, capture.layout.text_tokens
        output = call["output"][index]
        if backbone.text_position == "first":
            output = output[text:]
        elif backbone.text_position == "last":
            values = torch.cat([values[video : video + text], values[:video]])
        return values.unflatten(-1, (self.heads, self.channels)), output[:video]

    @classmethod
    def attended(cls, capture: Capture, values: Tensor) -> Tensor:
        """Output (token, channel) of the video tokens for what was captured and values (token, head, channel)."""
        return _attention(capture, values)

    @classmethod
    def watch(cls, stack: ExitStack, module: Any, calls: list[Any]) -> None:
        """Watch an attention module from outside, through hooks on its projections."""
        call: dict[str, Any] = {}

        def start(attention: Any, args: Any) -> None:
            call.clear()
            call["values"] = []

        def value(values: Any, args: Any, output: Tensor) -> None:
            call["values"].append(output)

        def finish(attention: Any, args: Any, output: Any) -> None:
            if "output" not in call:  # blocks without an output projection return the attention itself
                call["output"] = output[0]
            calls.append(dict(call))

        def project(output: Any, args: Any) -> None:
            call["output"] = args[0]

        stack.callback(module.register_forward_pre_hook(start).remove)
        stack.callback(module.register_forward_hook(finish).remove)
        for values in (projection(module, "to_v"), getattr(module, "add_v_proj", None)):
            if values is not None:
                stack.callback(values.register_forward_hook(value).remove)
        if projection(module, "to_out") is not None:
            stack.callback(projection(module, "to_out").register_forward_pre_hook(project).remove)

    @pytest.mark.parametrize("guided", [False, True])
    def test_probing_changes_nothing_to_the_bit(self, backbone: Backbone, guided: bool) -> None:
        before = self.sample(backbone, guided=guided)
        found: list[Capture] = []
        with Probe(backbone, Selection("all", "all", BOTH), found.append, features=True):
            during = self.sample(backbone, guided=guided)
        after = self.sample(backbone, guided=guided)
        assert torch.equal(before, during)
        assert torch.equal(before, after)
        assert len(found) == STEPS * len(self.layer_names) * (1 + guided)

    def test_each_capture_says_what_it_is(self, backbone: Backbone) -> None:
        found = self.captures(backbone, Selection("all", "all", BOTH), guided=True)
        count = len(self.layer_names)
        assert {(c.step, c.layer, c.branch, c.sample) for c in found} == {
            (step, layer, branch, 0) for step in range(STEPS) for layer in range(count) for branch in BOTH
        }
        assert {c.timestep for c in found if c.step == 1} == {backbone.schedule(STEPS, Size(**self.size)).timesteps[1]}
        for capture in found:
            assert capture.layer_name == self.layer_names[capture.layer]
            assert capture.query.shape == capture.key.shape == (self.heads, *self.grid, self.channels)
            assert capture.scale == pytest.approx(self.channels**-0.5)
            assert capture.features is None
            text = self.text_counts[0] if capture.branch == "cond" else self.text_counts[2]
            assert capture.layout.text_tokens == text
            if backbone.text_position is None:
                assert capture.text_query is None
                assert capture.text_key is None
            else:
                assert capture.text_query.shape == capture.text_key.shape == (self.heads, text, self.channels)

    def test_branches_are_what_they_are_called(self, backbone: Backbone) -> None:
        noise = self.noise(backbone)
        pair = self.captures(backbone, Selection([0], [1], BOTH), guided=True, latents=noise)
        named = {capture.branch: capture for capture in pair}
        (alone,) = self.captures(backbone, Selection([0], [1], BOTH), latents=noise)
        assert alone.branch == "cond"
        assert torch.allclose(named["cond"].key, alone.key, atol=1e-5)
        assert not torch.allclose(named["uncond"].key, alone.key, atol=1e-2)
        scale = self.guided["guidance_scale"]  # an input of the model where guidance is distilled
        forward = self.forward(backbone, branches=("uncond",), guidance_scale=scale)
        replayed: list[Capture] = []
        with torch.no_grad(), Probe(backbone, Selection([0], [1], BOTH), replayed.append):
            forward.predict(noise, 0)
        assert replayed[0].branch == "uncond"
        assert torch.allclose(named["uncond"].key, replayed[0].key, atol=1e-5)

    @pytest.mark.parametrize("guided", [False, True])
    def test_a_batch_of_prompts_gives_a_capture_each(self, backbone: Backbone, guided: bool) -> None:
        noise = self.noise(backbone, batch=2)
        selection = Selection([0], [1], BOTH)
        both = self.captures(backbone, selection, guided=guided, prompts=(0, 1), latents=noise)
        assert sorted((c.branch, c.sample) for c in both) == sorted(
            (branch, sample) for branch in BOTH[: 1 + guided] for sample in (0, 1)
        )
        single = [
            self.captures(backbone, selection, guided=guided, prompts=(n,), latents=noise[n : n + 1]) for n in (0, 1)
        ]
        for capture in both:
            n = capture.sample
            (alone,) = (c for c in single[n] if c.branch == capture.branch)
            assert torch.allclose(capture.query, alone.query, atol=self.batch_tolerance)
            assert capture.layout == alone.layout
            if capture.branch == "cond":
                assert capture.layout.text_tokens == self.text_counts[n]

    # Gradients ----------------------------------------------------------------------------------------------------

    def test_gradients_are_those_without_the_tap(self, fresh: Backbone) -> None:
        self.check_gradients(fresh, checkpointing=False)

    def check_gradients(self, fresh: Backbone, *, checkpointing: bool) -> None:
        forward, noise = self.forward(fresh), self.noise(fresh)
        plain = self._gradients(fresh, forward, noise)
        if checkpointing:
            fresh.pipeline.transformer.enable_gradient_checkpointing()
            fresh.pipeline.transformer.train()
        found: list[Capture] = []
        with Probe(fresh, Selection("all", "all"), found.append):
            tapped = self._gradients(fresh, forward, noise)
        assert len(found) == len(self.layer_names), "the recomputation is not captured a second time"
        assert plain.keys() == tapped.keys()
        for name, gradient in plain.items():
            assert gradient.abs().max() > 0, name
            assert torch.equal(gradient, tapped[name]), name

    def _gradients(self, backbone: Backbone, forward: ForwardPass, noise: Tensor) -> dict[str, Tensor]:
        backbone.pipeline.transformer.zero_grad()
        latents = noise.clone().requires_grad_()
        forward.predict(latents, 0)["cond"].square().sum().backward()
        gradients = {"latents": latents.grad}
        for name, module in backbone.modules[0]:
            for given in self.projections:
                gradients[f"{name} {given}"] = projection(module, given).weight.grad.clone()
        return gradients

    projections: ClassVar[tuple[str, ...]] = ("to_q", "to_k")
    """Modules that make the queries and keys."""

    # Replaying ----------------------------------------------------------------------------------------------------

    def test_a_forward_pass_predicts_what_the_pipeline_does_at_every_step(self, backbone: Backbone) -> None:
        calls: list[tuple[Tensor, Tensor]] = []

        def keep(module: Any, args: Any, kwargs: Any, output: Any) -> None:
            kwargs = named_arguments(module, args, kwargs)
            latents = backbone.latents_of_call(module, kwargs).clone()  # some pipelines step them in place
            calls.append((latents, backbone.prediction_of(output, kwargs)))

        hook = backbone.pipeline.transformer.register_forward_hook(keep, with_kwargs=True)
        self.sample(backbone, steps=3)
        hook.remove()
        forward = self.forward(backbone, steps=3, guidance_scale=self.unguided["guidance_scale"])
        assert len(calls) == 3
        for step, (latents, output) in enumerate(calls):
            with torch.no_grad():
                predicted = forward.predict(latents, step)["cond"]
                assert torch.allclose(predicted, output, rtol=0, atol=self.replay_tolerance)

    def test_its_own_positions_put_in_place_of_themselves_change_nothing(self, backbone: Backbone) -> None:
        forward, noise = self.forward(backbone), self.noise(backbone)
        denoiser, call = backbone.denoisers[0], forward._calls["cond"][1]
        call = backbone.call_with_latents(call, noise)
        layout, modules = backbone.layouts_of_call(call)[0], backbone.modules_of(denoiser)
        if not replaces_positions(type(backbone)):
            with pytest.raises(UnsupportedBackboneError, match=r"positions .*cannot be replaced"):
                backbone.replaced_positions(denoiser, call, backbone.positions(denoiser, call, layout))
            return
        plain = backbone.prediction_of(denoiser(**call), call)
        own = backbone.positions(denoiser, call, layout)
        flat = type(own)(**{name: torch.zeros_like(table) for name, table in own.tensors().items()})
        changed = []
        for positions in (own, flat):
            with torch.no_grad(), backbone.replaced_positions(denoiser, call, positions) as (replaced, editors):
                chains = dict.fromkeys(modules, editors)
                with AttentionEdit(modules, chains, layout, backbone.text_position, site=backbone.attention_site):
                    changed.append(backbone.prediction_of(denoiser(**replaced), call))
        assert torch.allclose(changed[0], plain, atol=1e-4)
        assert not torch.allclose(changed[1], plain, atol=1e-3)

    # Clips --------------------------------------------------------------------------------------------------------

    def forward(self, backbone: Backbone, **options: Any) -> ForwardPass:
        return ForwardPass(backbone, None, **{"steps": STEPS, **options}, **self.size, conditioning=self.conditioning())

    def see_clip(self, backbone: Backbone, clip: Clip, steps: Any, **options: Any) -> dict[tuple[int, str], Capture]:
        found: list[Capture] = []
        branches = options.pop("branches", ("cond",))
        selection = Selection(steps, [1], branches)
        options = {"steps": 5, "conditioning": self.conditioning(), **options}
        run_clip(backbone, clip, selection, lambda c: found.append(c), **options)
        assert len({(c.step, c.branch) for c in found}) == len(found)
        return {(c.step, c.branch): c for c in found}

    @pytest.mark.parametrize("noise", ["clean", "forward", "inversion"])
    def test_a_clip_is_seen_at_the_steps_and_branches_asked(self, backbone: Backbone, clip: Clip, noise: Any) -> None:
        before, progress = state_of(backbone), []
        report = lambda done, total: progress.append((done, total))  # noqa: E731
        found = self.see_clip(backbone, clip, [-1, 2], noise=noise, branches=BOTH, on_step=report)
        assert set(found) == {(2, "cond"), (4, "cond"), (2, "uncond"), (4, "uncond")}
        for (step, _), capture in found.items():
            assert capture.timestep == backbone.schedule(5, Size(**self.size)).timesteps[step]
            assert torch.isfinite(capture.query).all()
        assert not torch.allclose(found[2, "cond"].key, found[2, "uncond"].key, atol=1e-4)
        assert progress == ([(2, 4), (3, 4), (4, 4)] if noise == "inversion" else [(1, 2), (2, 2)])
        assert same_state(state_of(backbone), before)

    def test_forward_noise_is_the_schedulers(self, backbone: Backbone) -> None:
        clean, noise = torch.randn(2, 1, 4, 3, generator=torch.Generator().manual_seed(1))
        size, scheduler = Size(**self.size), backbone.pipeline.scheduler
        schedule = backbone.schedule(7, size)
        backbone.set_timesteps(scheduler, 7, size)
        for step in (0, 3, 6):
            timestep = scheduler.timesteps[step : step + 1]
            if hasattr(scheduler, "add_noise"):
                expected = scheduler.add_noise(clean, noise, timestep)
            else:
                expected = scheduler.scale_noise(clean, timestep, noise)
            assert torch.allclose(schedule.noised(clean, noise, step), expected, atol=1e-6)

    def test_inversion_is_a_chain_of_deterministic_steps(self, backbone: Backbone, clip: Clip) -> None:
        forward, latents = self.forward(backbone, steps=4), backbone.encode(clip)
        states = {state.step: state for state in run_states(forward, latents, [1], noise="inversion")}
        assert list(states) == [3, 2, 1]
        schedule = forward.schedule
        for step in (2, 1):
            after = states[step + 1]
            expected = schedule.move(after.latents, after.predictions["cond"], step + 1, step)
            assert torch.equal(states[step].latents, expected)
        with torch.no_grad():
            start = forward.predict(latents, 4)["cond"]
        assert torch.equal(states[3].latents, schedule.move(latents, start, 4, 3))

    def test_a_clip_of_a_size_that_does_not_fit_is_refused(self, backbone: Backbone, clip: Clip) -> None:
        height, width, images = self.size.values()
        with pytest.raises(InvalidInputError, match=f"does not take {height} x {width} px and {images - 1} images"):
            self.see_clip(backbone, clip.window(0, images - 1), [0])

    # Prompts ------------------------------------------------------------------------------------------------------

    def test_a_prompt_is_seen_while_its_clip_is_made(self, backbone: Backbone) -> None:
        options: dict[str, Any] = {"steps": STEPS, "conditioning": {**self.conditioning(), **self.guided}, **self.size}
        expected = backbone.generate("a prompt", **options)
        found: list[Capture] = []
        progress: list[tuple[int, int]] = []
        clip = run_prompt(
            backbone,
            "a prompt",
            Selection([0], [1], BOTH),
            found.append,
            on_step=lambda done, total: progress.append((done, total)),
            **options,
        )
        assert clip.prompt == "a prompt"
        assert (clip.images == expected.images).all()
        assert {(c.step, c.branch) for c in found} == {(0, "cond"), (0, "uncond")}
        assert progress == [(1, 2), (2, 2)]

    # Offloading ---------------------------------------------------------------------------------------------------


def cast(arguments: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Pipeline arguments with float tensors in a data type; images, masks and numbers as they are."""

    def one(value: Any) -> Any:
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    return {name: one(value) for name, value in arguments.items()}


def _attention(capture: Capture, values: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(channel)) v of the video tokens, (token, head * channel); values of text, then video."""
    query, key = (tensor.flatten(1, 3) for tensor in (capture.query, capture.key))
    if capture.text_key is not None:
        key = torch.cat([capture.text_key, key], dim=1)
    weights = torch.softmax(query @ key.transpose(1, 2) / query.shape[-1] ** 0.5, dim=-1)
    return (weights @ values.transpose(0, 1)).transpose(0, 1).flatten(1)
