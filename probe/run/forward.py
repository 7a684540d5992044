"""Run the transformer on given latents with the pipeline's own conditioning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from probe.attention.edit import AttentionEdit
from probe.attention.positions import Positions, check_positions
from probe.attention.token_order import TokenOrder
from probe.attention.wrapping import named_arguments
from probe.backbones.backbone import Backbone
from probe.backbones.finite import ValueChecks, check_latents
from probe.backbones.settings import RequestedSize, RunSettings
from probe.execution.compiled import CompilerHold, uncompiled
from store.arguments import checked, checked_but
from store.errors import InvalidInputError, UnknownLayerError
from store.wording import Wording


class _FirstCall(Exception):
    """Leaves a pipeline with the arguments of its first transformer call."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.call = args, kwargs


class ForwardPass:
    """A backbone's transformer, run on given latents at given steps for the branches asked.

    The conditioning (text embeddings and masks, rotary tables, embedded guidance) is taken from the pipeline: it is
    called once a branch, with guidance off, and left at its first transformer call. So no family needs forward code
    of its own here, and a branch that is not requested costs nothing.

    Parameters
    ----------
    backbone : Backbone
    prompt : str or None
    steps : int
        Denoising steps of the run whose timesteps are used.
    branches : iterable of "cond" and "uncond"
    height, width, images : int, optional
        Size of the clip; the backbone's default where not given.
    guidance_scale : float, optional
        Matters only where guidance is an input of the model (HunyuanVideo).
    negative_prompt, conditioning
        As in :meth:`Backbone.generate`.

    Raises
    ------
    InvalidInputError
        For a size the model does not take, a prompt it cannot read, missing negative conditioning.

    Examples
    --------
    >>> import torch
    >>> from probe import load_backbone
    >>> from probe.mini import new_pipeline
    >>> backbone = load_backbone(new_pipeline())
    >>> forward = ForwardPass(backbone, "a red disc moves left over blue stripes", steps=9)
    >>> with torch.no_grad():
    ...     predictions = forward.predict(torch.zeros(1, 6, 12, 20, 20), step=-1)
    >>> predictions["cond"].shape
    torch.Size([1, 6, 12, 20, 20])
    """

    @checked_but("prompt", "negative_prompt")
    def __init__(
        self,
        backbone: Backbone,
        prompt: str | None,
        *,
        steps: int = 50,
        branches: tuple[str, ...] = ("cond",),
        height: int | None = None,
        width: int | None = None,
        images: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | None = None,
        conditioning: Mapping[str, Any] | None = None,
    ) -> None:
        size = RequestedSize(height, width, images)
        settings = RunSettings(0, steps, size, guidance_scale, negative_prompt, conditioning)
        self._prepare(backbone, prompt, settings, branches)

    @classmethod
    def of(
        cls, backbone: Backbone, prompt: str | None, settings: RunSettings, branches: tuple[str, ...] = ("cond",)
    ) -> ForwardPass:
        """Return a forward pass of a run with given settings."""
        forward = cls.__new__(cls)
        forward._prepare(backbone, prompt, settings, branches)
        return forward

    def _prepare(
        self, backbone: Backbone, prompt: str | None, settings: RunSettings, branches: tuple[str, ...]
    ) -> None:
        arguments = backbone.arguments(prompt, settings)
        size = backbone.geometry.resolve_size(*settings.size)
        self.backbone = backbone
        self.schedule = backbone.schedule(settings.steps, size)
        self.images = size.images
        chosen = {branch: backbone.arguments.of_branch(arguments, branch) for branch in branches}
        self._calls = {branch: _first_call(backbone, call) for branch, call in chosen.items()}

    @property
    def branches(self) -> tuple[str, ...]:
        """The branches it can run."""
        return tuple(self._calls)

    def condition(self, branch: str) -> Tensor | None:
        """Channels (1, ...) that a branch is given after the latents (image-to-video), None if there are none.

        Raises
        ------
        UnknownLayerError
            For a branch that was not prepared.
        """
        call, axis = self._call(branch)[1], self.backbone.geometry.channel_axis
        given = self.backbone.shown_in_call(call)
        latents = self.backbone.latents_of_call(self.backbone.denoisers[0], call)
        if given.ndim != latents.ndim or given.shape[axis] == latents.shape[axis]:
            return None
        return given.narrow(axis, latents.shape[axis], given.shape[axis] - latents.shape[axis])

    def positions(self) -> Positions:
        """The positions that the model uses in this pass, (frame, y, x, channel) tables.

        Raises
        ------
        UnsupportedBackboneError
            When positions of this family cannot be read.
        """
        call = next(iter(self._calls.values()))[1]
        with self.backbone.sized(self.images):
            layout = self.backbone.layouts_of_call(call)[0]
            return self.backbone.positions(self.backbone.denoisers[0], call, layout)

    @contextmanager
    def at_positions(self, positions: Positions) -> Iterator[None]:
        """Show the model other positions of the video tokens while the context is open; run backward passes in it too.

        Parameters
        ----------
        positions : Positions
            Positions of the kind and size of :meth:`positions`, for example of other frames
            (:func:`probe.attention.frame_positions.positions_at`).

        Raises
        ------
        InvalidInputError
            For positions of another kind or size, or a pass of two branches.
        UnsupportedBackboneError
            When positions of this family cannot be replaced.
        """
        if len(self._calls) != 1:
            raise InvalidInputError("positions are replaced in a pass of one branch; this one has two.")
        check_positions(positions, self.positions(), self.backbone.name)
        before = self._calls
        ((branch, (args, call)),) = before.items()
        with self.backbone.sized(self.images):
            layout = self.backbone.layouts_of_call(call)[0]

        def order(tokens: int) -> TokenOrder:
            return self.backbone.order_of_tokens(call, replace(layout, text_tokens=0), tokens, "a layer")

        with ExitStack() as stack:
            for denoiser in self.backbone.denoisers:
                modules = self.backbone.modules_of(denoiser)
                changed, editors = stack.enter_context(self.backbone.replaced_positions(denoiser, call, positions))
                chains = dict.fromkeys(modules, editors)
                edit = AttentionEdit(modules, chains, layout, self.backbone.text_position, order=order)
                stack.enter_context(edit)
            self._calls = {branch: (args, changed)}
            stack.callback(setattr, self, "_calls", before)
            yield

    @checked
    def predict(
        self, latents: Tensor, step: int, *, branches: tuple[str, ...] | None = None, capture: bool = True
    ) -> dict[str, Tensor]:
        """The model's prediction for latents at a step, by branch; probes see the calls as that step.

        Parameters
        ----------
        latents : tensor in the pipeline's latent layout
            Gradients flow through it where they are enabled.
        step : int
            Negative ones count from the end; ``steps`` itself is the clean end of the run, at timestep 0.
        branches : tuple of str, optional
            Those to run; all by default.
        capture : bool
            False hides the calls from probes.

        Raises
        ------
        UnknownLayerError
            For a step or branch it does not have.
        InvalidInputError
            For latents that are not a float tensor of five axes.
        NotFiniteError
            When the latents or the prediction are not finite, or beyond 1e6; names the step.
        """
        check_latents(latents)
        steps = len(self.schedule)
        at_end = step == steps
        step = steps if at_end else self.schedule.resolve(step)
        timestep = self.schedule.clean_timestep if at_end else self.schedule.timesteps[step]
        seen = None if at_end or not capture else step
        shape, axis = self._shape_shown(), self.backbone.geometry.channel_axis
        sizes = [(*each[1:axis], *each[axis + 1 :]) for each in (tuple(latents.shape), shape)]
        if sizes[0] != sizes[1] or latents.shape[axis] > shape[axis]:
            raise InvalidInputError(
                f"latents of shape {tuple(latents.shape)} are not of the size of this forward pass, whose input is "
                f"{shape}."
            )
        what = f"step {step} of {steps} (timestep {timestep:g})"
        results, checks = {}, ValueChecks()
        checks.add(latents, f"the latents shown to the model at {what}", step=step)
        try:
            with self.backbone.sized(self.images):
                for branch in branches or self.branches:
                    with self.backbone.label_calls(seen, timestep, branch, steps):
                        results[branch] = self._run(branch, latents, timestep, self.schedule.timestep_input(step))
                    prediction = f"what the model predicts of branch {branch!r} at {what}"
                    checks.add(results[branch], prediction, step=step)
        finally:  # also of a pass that was left, or that fails because of them
            checks.finish()
        return results

    def _run(self, branch: str, latents: Tensor, timestep: float, timestep_input: float) -> Tensor:
        args, kwargs = self._call(branch)
        call = self.backbone.call_with_latents(kwargs, latents)
        call.update(self.backbone.replayed(kwargs, timestep_input))
        return self.backbone.prediction_of(self.backbone.denoiser_at(timestep)(*args, **call), kwargs)

    def _shape_shown(self) -> tuple[int, ...]:
        """Shape of the latents in the pipeline's own call, with the condition channels after them."""
        call = next(iter(self._calls.values()))[1]
        axis, hidden = self.backbone.geometry.channel_axis, self.backbone.shown_in_call(call)
        shape = list(self.backbone.latents_of_call(self.backbone.denoisers[0], call).shape)
        if hidden.ndim == len(shape):
            shape[axis] = hidden.shape[axis]
        return tuple(shape)

    def _call(self, branch: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if branch not in self._calls:
            raise UnknownLayerError(
                f"branch {branch!r} was not prepared. This forward pass has {', '.join(self._calls)}.",
                remedy=Wording("Make it with {branches}.", branches=(*self._calls, branch)),
            )
        return self._calls[branch]


def _first_call(backbone: Backbone, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def leave(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _FirstCall((), named_arguments(module, args, kwargs))

    with ExitStack() as stack:
        stack.enter_context(backbone.quiet())
        stack.enter_context(CompilerHold())
        for denoiser in backbone.denoisers:
            # before any other hook: a probe that is already there must not see this call
            hook = denoiser.register_forward_pre_hook(uncompiled(denoiser, leave), prepend=True, with_kwargs=True)
            stack.callback(hook.remove)
        try:
            call = stack.enter_context(backbone.prepared_call(arguments))
            backbone.run_pipeline(**call, output_type="latent")
        except _FirstCall as seen:
            return seen.call
        finally:
            backbone.pipeline.maybe_free_model_hooks()
    raise RuntimeError(f"{type(backbone.pipeline).__name__} never called its transformer.")
