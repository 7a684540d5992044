"""``ditprobe adapt``."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ditprobe.cli import inputs, options
from ditprobe.cli.console import progress, say, verb
from ditprobe.cli.groups import takes_groups
from ditprobe.cli.loading import DEFAULTS, LoadingOptions, load_backbone_option, plan_backbone_option
from ditprobe.cli.text.estimates import tell_time
from store.errors import InvalidInputError, RecordingError

if TYPE_CHECKING:
    from generators.adapters.fitted import TrainedMethod
    from generators.adapters.training.settings import Losses

GROUP = "Steer a generation"
EXAMPLES = """
\b
Examples:
  ditprobe adapt reference.mp4 --out motion.safetensors
  ditprobe adapt reference.mp4 --prompt "a red disc over blue stripes" --training-steps 200 --learning-rate 0.003
  ditprobe adapt reference.mp4 --method dreambooth --out lora.safetensors --resume
  ditprobe adapt reference.mp4 --method follow-your-motion --split random --sampled-frames 4
  ditprobe adapt reference.mp4 -b THUDM/CogVideoX-2b --gradient-checkpointing --dry-run
  ditprobe transfer --adapter motion.safetensors "a green star over white dots"
"""


@verb(interrupted=lambda given: _interrupted(given))
@takes_groups
def adapt(
    clip: Annotated[str, typer.Argument(help="The video whose motion is learnt.", show_default=False)],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="PATH", help="A .safetensors file.", rich_help_panel=options.OUTPUT),
    ] = Path("motion.safetensors"),
    backbone: options.BackboneName = "mini",
    method: Annotated[
        Literal["det", "dreambooth", "motion-inversion", "follow-your-motion"], typer.Option(help="What is trained.")
    ] = "det",
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Caption during training; the clip's own by default. One that leaves the motion open transfers best.",
            show_default=False,
        ),
    ] = None,
    preset: Annotated[
        Literal["exact", "paper", "det", "code"],
        typer.Option(
            help="Preset of the losses and of options not given: exact, paper or det for --method det; exact, paper or "
            "code for --method follow-your-motion."
        ),
    ] = "exact",
    training_steps: Annotated[int | None, typer.Option(min=1, metavar="NUMBER", help="Steps of the optimiser.")] = None,
    spatial_steps: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="NUMBER", help="Steps for the spatial heads of follow-your-motion, which come first."
        ),
    ] = None,
    split: Annotated[
        Literal["exact", "paper", "code", "random", "none"] | None,
        typer.Option(
            help="How follow-your-motion tells spatial from temporal heads; that of the preset by default.",
            show_default=False,
        ),
    ] = None,
    sampled_frames: Annotated[
        int | None,
        typer.Option(
            min=2, metavar="NUMBER", help="Latent frames that follow-your-motion learns from.", show_default=False
        ),
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(metavar="NUMBER", help="Learning rate of AdamW.")] = None,
    tracking_weight: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Weight of the tracking loss, added to the denoising loss.")
    ] = None,
    tracks: Annotated[
        Literal["auto", "clip", "backbone", "flow"], typer.Option(help="Source of the tracks for the tracking loss.")
    ] = "auto",
    keep: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", help="Fraction of the layers, from the first, that keep it at inference."),
    ] = None,
    mixed_precision: Annotated[Literal["no", "bf16", "fp16"], typer.Option(help="Precision of the passes.")] = "no",
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Recompute layers: less memory, more time.")
    ] = False,
    sample: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Generate this prompt during training and at the end.", show_default=False),
    ] = None,
    sample_every: Annotated[int, typer.Option(min=1, metavar="NUMBER", help="Training steps between samples.")] = 100,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="A page with the loss and the samples.",
            show_default=False,
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    seed: options.Seed = 0,
    loading: LoadingOptions = DEFAULTS,
    overwrite: options.Overwrite = False,
    resume: options.Resume = False,
    dry_run: options.DryRun = False,
    no_estimate: options.NoEstimate = False,
) -> None:
    """Learn the motion of a clip, for any number of prompts (DeT)."""
    inputs.check_exists(Path(clip), "a video")
    from generators.adapters.files import check_adapter_path
    from store.clips.video import read_clip

    if not dry_run:
        check_adapter_path(out, overwrite=overwrite or resume)
        if picture is not None:
            from ditprobe.report.page import check_page

            check_page(picture, overwrite=overwrite or resume)
    source = read_clip(clip)
    from generators.adapters.training.train import check_moving

    check_moving(source)
    model = plan_backbone_option(backbone, loading) if dry_run else load_backbone_option(backbone, loading)
    changes = {"steps": training_steps, "learning_rate": learning_rate, "tracking_weight": tracking_weight}
    own = {"spatial_steps": spatial_steps, "split": split, "sampled": sampled_frames}
    chosen = _method(method, preset, keep, model, own)
    given: dict[str, Any] = {name: value for name, value in {**changes, "seed": seed}.items() if value is not None}
    precision: Any = {"mixed_precision": mixed_precision, "gradient_checkpointing": gradient_checkpointing}
    chosen = replace(chosen, training=replace(chosen.resolve_training(model), **precision, **given))
    if dry_run:
        _tell_plan(chosen, model, clip, out, estimate=not no_estimate)
        return
    training = chosen.resolve_training(model)
    from ditprobe.cli.divergence import save_adapter_on_divergence
    from generators.adapters.motion_tracks import tracks_of
    from generators.transfer.reference_clip import fit_reference

    size = model.default_size
    source = fit_reference(source, size)
    followed = None
    if training.tracking_weight:
        followed = tracks_of(source, model, source=tracks, points=training.points, seed=seed)
    history: list[Losses] = []
    samples: dict[int, Any] = {}
    adapter = chosen.adapter_for(model, source, prompt=prompt)
    steps = chosen.total_steps(model)
    with save_adapter_on_divergence(out), progress("training") as bar:

        def on_step(losses: Losses) -> None:
            history.append(losses)
            done = losses.step + 1
            bar(done, steps, f"loss {losses.total:.3f}")
            if sample is not None and (done % sample_every == 0 or done == steps):
                samples[done] = _sample(chosen, adapter, model, sample, seed)

        fitted = chosen.fit(
            model,
            source,
            size=(size.height, size.width, size.images),
            tracks=followed,
            prompt=prompt,
            checkpoint=_checkpoint(out),
            resume=resume,
            on_step=on_step,
            adapter=adapter,
        )
    _save(fitted.adapter, out, overwrite=overwrite or resume)
    say(f"{out}: {fitted.adapter!r}")
    losses = fitted.adapter.details["losses"]
    part = max(1, len(losses) // 5)
    first, last = sum(losses[:part]) / part, sum(losses[-part:]) / part
    say(f"loss {first:.4f} in the first {part} of {len(losses)} steps, {last:.4f} in the last {part}")
    if picture is not None:
        from ditprobe.report.adapt import training_figures
        from ditprobe.report.page import write_page

        write_page(picture, f"{out.name}: {clip}", training_figures(losses, source, samples, sample), width=1000)
        say(f"{picture}: the loss and {len(samples)} samples")
    say(f"{model.name}, {chosen.describe(model, 50)}. Use it: ditprobe transfer --adapter {out} PROMPT")


def _save(adapter: Any, out: Path, *, overwrite: bool) -> None:
    """Write the adapter; if that fails, write it to the system's temporary folder, so that nothing is lost."""
    from generators.adapters.files import save_adapter

    try:
        save_adapter(adapter, out, overwrite=overwrite)
    except RecordingError as error:
        other = Path(tempfile.mkdtemp(prefix="ditprobe-"), out.name)
        try:
            save_adapter(adapter, other)
        except OSError:
            raise error from error.__cause__
        raise RecordingError(error.message, remedy=f"It is kept in {other}: move it.") from error.__cause__


def _checkpoint(out: Path) -> Path:
    return out.with_name(f"{out.stem}.training.pt")


def _interrupted(given: Mapping[str, Any]) -> str:
    if given.get("dry_run"):
        return ""
    kept = _checkpoint(given["out"])
    return f"{kept} keeps the training; the same command with --resume continues it." if kept.exists() else ""


_PRESETS = {"det": ("exact", "paper", "det"), "follow-your-motion": ("exact", "paper", "code")}
_OWN = {"spatial_steps": "--spatial-steps", "split": "--split", "sampled": "--sampled-frames"}


def _method(name: str, preset: Any, keep: float | None, model: Any, own: dict[str, Any]) -> TrainedMethod:
    from generators.adapters.decoupled.follow_your_motion import FollowYourMotion
    from generators.adapters.det import DeT, DreamBooth, InvertedMotion

    if preset not in _PRESETS.get(name, ("exact",)):
        methods = " and ".join(f"--method {method}" for method, presets in _PRESETS.items() if preset in presets)
        raise InvalidInputError(f"--preset {preset} is one of {methods}. Leave it out.")
    given = {key: value for key, value in own.items() if value is not None}
    if name != "follow-your-motion":
        if given:
            raise InvalidInputError(f"{_OWN[next(iter(given))]} is for --method follow-your-motion. Leave it out.")
        kinds: dict[str, Any] = {"dreambooth": DreamBooth, "motion-inversion": InvertedMotion}
        return DeT(keep=keep, preset=preset) if name == "det" else kinds[name](keep=keep)
    spatial_steps = given.pop("spatial_steps", None)
    method = FollowYourMotion(keep=keep, preset=preset, **given)
    if spatial_steps is None:
        return method
    return replace(method, spatial_training=replace(method.resolve_spatial_training(model), steps=spatial_steps))


def _sample(method: TrainedMethod, adapter: Any, model: Any, prompt: str, seed: int) -> Any:
    import torch

    from generators.adapters.fitted import AttachAdapter
    from generators.sampling.sample import sample

    with torch.no_grad():
        return sample(model, prompt, AttachAdapter(adapter, keep=method.resolve_keep(model)), seed=seed, steps=25)


def _tell_plan(method: TrainedMethod, model: Any, clip: str, out: Path, *, estimate: bool) -> None:
    from generators.adapters.training.plan import plan_training

    plan = plan_training(method, model)
    how, memory = plan.lines()
    say(f"{model!r}\n  clip      {clip}, at {model.default_size}\n  adapter   {out}")
    say(f"  method    {method.describe(model, 50)}\n  training  {how}\n  memory    {memory}")
    tell_time(model, [(model.default_size, plan.passes)], steps=50, estimate=estimate)
