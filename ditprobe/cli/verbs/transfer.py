"""``ditprobe transfer``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ditprobe.cli import inputs, options
from ditprobe.cli.clip_file import enlarged, file_name, written
from ditprobe.cli.console import progress, say, verb
from ditprobe.cli.generation import GENERATION, GenerationOptions, describe_run
from ditprobe.cli.groups import takes_groups
from ditprobe.cli.layer_option import layers_option
from ditprobe.cli.loading import DEFAULTS, LoadingOptions, load_backbone_option
from ditprobe.cli.text.estimates import planned_memory, run_cost, tell_time, transfer_memory
from store.errors import InvalidInputError
from store.plan import format_bytes

if TYPE_CHECKING:
    from generators.transfer.embedding import MotionEmbedding
    from generators.transfer.method import TransferMethod
    from generators.transfer.motion_transfer import Transferred
    from probe.backbones.backbone import Backbone
    from probe.backbones.geometry import Size
    from probe.backbones.pipeline_call import OnStep
    from store.clips.clip import Clip

GROUP = "Steer a generation"
EXAMPLES = """
\b
Examples:
  ditprobe transfer reference.mp4 "a green star moves left over white dots"
  ditprobe transfer reference.mp4 "a pink ring moves up over grey dots" --method smm --seed 3 --out ring.mp4
  ditprobe transfer reference.mp4 "a dog runs" -b THUDM/CogVideoX-2b --preset ditflow --dry-run
  ditprobe transfer reference.mp4 "a dog runs" --method ditflow-positions --save-embedding run.safetensors
  ditprobe transfer "a horse runs" --embedding run.safetensors
  ditprobe transfer "a horse runs" --adapter motion.safetensors
  ditprobe transfer reference.mp4 "a green star moves left over white dots" --picture beside.html
"""

_OPTIMISING = ("gradient_checkpointing",)
_OF_METHODS = ("layers", "fraction", "iterations", "learning_rate", "inject", "preset")
"""Options that become arguments of the method if it takes them."""


@verb
@takes_groups
def transfer(
    ctx: typer.Context,
    reference: Annotated[
        str, typer.Argument(help="The video whose motion is transferred; not with --embedding.", show_default=False)
    ],
    prompt: Annotated[str | None, typer.Argument(help="The content of the new clip.", show_default=False)] = None,
    out: options.NamedVideo = None,
    backbone: options.BackboneName = "mini",
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="ditflow, ditflow-positions, smm, moft, motionclone, injection, none, or a registered one.",
        ),
    ] = "ditflow",
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="Layers whose motion is compared, or a file of ditprobe select; the preset's by default.",
        ),
    ] = None,
    fraction: Annotated[
        float, typer.Option(metavar="NUMBER", help="Fraction of the steps, from the noisiest, that are guided.")
    ] = 0.2,
    iterations: Annotated[
        int, typer.Option(min=1, metavar="NUMBER", help="Iterations of Adam at each guided step.")
    ] = 5,
    learning_rate: Annotated[
        str | None,
        typer.Option(
            metavar="FIRST,LAST", help="Learning rates, falling linearly, such as 0.002,0.001.", show_default=False
        ),
    ] = None,
    inject: Annotated[
        bool, typer.Option("--inject", help="Attend to the reference's keys and values in layer 0 too.")
    ] = False,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Recompute layers: less memory, more time.")
    ] = False,
    preset: Annotated[
        Literal["exact", "ditflow"], typer.Option(help="ditflow uses the layers and the schedule of its release.")
    ] = "exact",
    keep: Annotated[
        Path | None,
        typer.Option(
            "--save-embedding",
            metavar="PATH",
            help="Save the positions of ditflow-positions to a .safetensors file.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    embedding: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Use the motion of a saved embedding, without optimisation.", show_default=False
        ),
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Use the motion that ditprobe adapt learnt; nothing is optimised.", show_default=False
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="A page that plays reference and result next to their flow.",
            show_default=False,
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    generation: GenerationOptions = GENERATION,
    loading: LoadingOptions = DEFAULTS,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    no_estimate: options.NoEstimate = False,
) -> None:
    """Generate a clip with the motion of a reference (DiTFlow)."""
    from generators.transfer.methods import METHODS
    from store.clips.encoding import check_clip_path
    from store.clips.video import write_clip

    reference, prompt = _words(reference, prompt, embedding, adapter)
    METHODS[method]  # raises for an unknown name, before torch is imported
    if embedding is not None:
        options.reject_options(
            ctx, ("method", "keep", *_OPTIMISING, *_OF_METHODS), "cannot be combined with --embedding."
        )
        options.reject_options(ctx, ("picture",), "shows the reference, which --embedding does not have. Leave it out.")
    if adapter is not None:
        options.reject_options(
            ctx, ("method", "keep", *_OPTIMISING, *_OF_METHODS), "cannot be combined with --adapter."
        )
        options.reject_options(ctx, ("picture",), "shows the reference, which --adapter does not have. Leave it out.")
    path = out or Path(file_name(prompt)).with_stem(f"{Path(file_name(prompt)).stem}-transferred")
    compared, rates, seed, steps = _layers(layers), _rates(learning_rate), generation.seed, generation.steps
    run = {**generation.arguments(backbone), "seed": seed}
    if adapter is not None:
        inputs.check_exists(adapter, "a motion adapter")
    else:
        inputs.check_exists(embedding or Path(reference), "a motion embedding" if embedding else "a video")
    if not dry_run:
        check_clip_path(path, overwrite=overwrite)
        if picture is not None:
            from ditprobe.report.page import check_page

            check_page(picture, overwrite=overwrite)

    given = {"layers": compared, "fraction": fraction, "iterations": iterations, "learning_rate": rates}
    chosen = _method(ctx, method, {**given, "inject": inject, "preset": preset})
    if keep is not None and getattr(chosen, "optimise", None) != "positions":
        raise InvalidInputError("--save-embedding saves optimised positions. Add --method ditflow-positions.")

    from ditprobe.cli.divergence import save_latents_on_divergence
    from generators.transfer.embedding_files import check_embedding_path, save_embedding

    if keep is not None and not dry_run:
        check_embedding_path(keep, overwrite=overwrite)
    # files first: checking that they can be read is faster than loading a model
    if adapter is not None:
        model = load_backbone_option(backbone, loading, plan=dry_run)
        job = _adapter_job(model, adapter, prompt, run)
    else:
        source = _source(reference, embedding)
        plan = dry_run and embedding is None  # an embedding is checked against the model's own tables
        model = load_backbone_option(backbone, loading, plan=plan)
        job = _job(model, source, prompt, chosen, run, gradient_checkpointing)
    motion = f"{job.what}, from {adapter or embedding or reference}"
    layer = None if picture is None else _seen_layer(model, chosen)
    if dry_run:
        say(f"{model!r}\n  clip      {path}\n  prompt    {prompt!r}\n  run       {job.how}\n  motion    {motion}")
        if picture is not None:
            say(f"  picture   {picture}: reference and result next to their flow by layer {layer}")
        tell_time(model, [job.calls], steps=steps, estimate=not no_estimate, use="transfer", beside=job.memory)
        return
    with save_latents_on_divergence(path), progress("transferring") as bar:
        found = job.run(bar)
    if keep is not None and found.embedding is not None:
        say(f"{save_embedding(found.embedding, keep, overwrite=overwrite)}: {found.embedding!r}")
    clip = enlarged(found.clip, generation.pixel_scale)
    write_clip(path, clip, overwrite=overwrite)
    say(written(path, clip, seed))
    if picture is not None and layer is not None and job.reference is not None:
        _draw(picture, model, job.reference, found.clip, f"{prompt}, moving as {Path(reference).name}", layer, steps)
        say(f"{picture}: reference and result next to their flow by layer {layer}")
    say(f"{model.name}, {job.how}, {motion}: {prompt!r}")


@dataclass(frozen=True)
class _Job:
    """A transfer to run: its description, the function that runs it, its cost, the fitted reference, and its memory."""

    how: str
    what: str
    run: Callable[[OnStep], Transferred]
    calls: tuple[Size, float]
    reference: Clip | None = None
    memory: str | None = None


def _job(
    model: Backbone,
    source: Clip | MotionEmbedding,
    prompt: str,
    method: TransferMethod,
    run: Any,
    checkpointing: bool,
) -> _Job:
    from generators.sampling.sample import GuidedSampling, sample
    from generators.transfer.embedding import InjectMotion, MotionEmbedding
    from generators.transfer.motion_transfer import MotionTransfer, Transferred

    arguments = model.arguments(prompt, **run)
    how = describe_run(model, arguments)
    size, plain = run_cost(model, arguments)
    if isinstance(source, MotionEmbedding):
        strategy = InjectMotion(source)
        strategy.start(GuidedSampling(model, strategy, arguments).run)
        what = f"the embedding of {len(source.positions)} of {source.steps} steps"
        return _Job(
            how,
            what,
            lambda bar: Transferred(sample(model, prompt, strategy, on_step=bar, **run), {}, None),
            (size, plain),
        )
    transfer = MotionTransfer(model, source, prompt, method=method, gradient_checkpointing=checkpointing, **run)
    what = _described(method, model, run["steps"])
    calls = plain + method.passes(model, run["steps"])
    memory = transfer_memory(model, size, [method], checkpointing)
    return _Job(how, what, lambda bar: transfer.run(on_step=bar), (size, calls), transfer.reference, memory)


def _adapter_job(model: Backbone, path: Path, prompt: str, run: Any) -> _Job:
    """Return the run with a trained adapter; in a plan, the model has no weights and the file is not loaded."""
    from generators.adapters.files import load_adapter
    from generators.adapters.fitted import AttachAdapter
    from generators.sampling.sample import sample
    from generators.transfer.motion_transfer import Transferred

    arguments = model.arguments(prompt, **run)
    adapter = load_adapter(path, model)
    strategy = AttachAdapter(adapter, keep=float(adapter.details.get("keep", 1.0)))
    what = f"the {adapter.kind} adapter in {len(strategy.layers)} of {len(model.layers)} layers"

    def generate(bar: OnStep) -> Transferred:
        return Transferred(sample(model, prompt, strategy, on_step=bar, **run), {}, None)

    cost = run_cost(model, arguments)
    added = planned_memory(model, cost[0]).adapter_bytes(adapter.parameter_count)
    memory = f"{format_bytes(added)} in addition to the model"
    return _Job(describe_run(model, arguments), what, generate, cost, memory=memory)


def _source(reference: str, embedding: Path | None) -> Clip | MotionEmbedding:
    if embedding is None:
        from store.clips.video import read_clip

        return read_clip(reference)
    from generators.transfer.embedding_files import load_embedding

    return load_embedding(embedding)


def _seen_layer(model: Backbone, method: TransferMethod) -> int:
    """Return the layer whose flow is drawn: the best of a selection, the first given, or one known to track well."""
    from analyses.flow.reference_flow import default_layer
    from analyses.selection.defaults import chosen_layers
    from analyses.selection.layer_selection import LayerSelection
    from generators.transfer.optimised import OptimisedMethod

    if isinstance(method, OptimisedMethod):
        if isinstance(method.layers, LayerSelection):
            return chosen_layers(method.layers, model)[0]
        return method.resolve_layers(model)[0]
    try:
        return default_layer(model)
    except InvalidInputError as error:
        raise InvalidInputError(
            f"no layer is known to track well on {model.name}, so --picture has no flow to draw. Leave it out; "
            "ditprobe amf --layer draws the flow of a clip."
        ) from error


def _draw(path: Path, model: Backbone, reference: Clip, clip: Clip, title: str, layer: int, steps: int) -> None:
    """Draw a page of both clips beside their flow, which is read from the finished clips."""
    from analyses.flow.reference_flow import default_step
    from ditprobe.report.flows import default_choices, read_flows, transfer_flows_part
    from ditprobe.report.page import write_page
    from store.selection import resolve_number

    step = default_step(model, steps=steps)
    step = None if step is None else resolve_number("step", step, steps, "run")
    layout = model.layout(clip.height, clip.width, len(clip))
    tokens = layout.frames * layout.height * layout.width
    layers, shown = default_choices(len(model.layers), tokens, layer, step, steps)
    read = [read_flows(model, each, layers, shown, steps=steps) for each in (reference, clip)]
    flows = [list(zip(*rows, strict=True)) for rows in zip(*read, strict=True)]
    part = transfer_flows_part(reference, clip, flows, layer=layers.index(layer), step=shown.index(step))
    write_page(path, title, [part], width=1240)


def _described(method: TransferMethod, model: Backbone, steps: int) -> str:
    try:
        return method.describe(model, steps)
    except InvalidInputError as error:
        if getattr(method, "layers", None) is not None or getattr(method, "preset", None) == "ditflow":
            raise
        raise InvalidInputError(
            f"no layers are known to guide {model.name} by. Give --layers; ditprobe sweep and ditprobe select find "
            "them."
        ) from error


def _words(reference: str, prompt: str | None, embedding: Path | None, adapter: Path | None) -> tuple[str, str]:
    """Return the reference and the prompt; with an embedding or an adapter, the only argument is the prompt."""
    if embedding is not None and adapter is not None:
        raise InvalidInputError("--embedding and --adapter both have a motion. Give one of them.")
    given = "--embedding" if adapter is None else "--adapter"
    if embedding is None and adapter is None:
        if prompt is None:
            raise InvalidInputError(
                "a reference and a prompt are needed, in this order; with --embedding or --adapter, only the prompt."
            )
        return reference, prompt
    if prompt is not None:
        raise InvalidInputError(
            f"{given} already has the motion, so the reference {reference} would be ignored. Leave one of them out."
        )
    return "", reference


def _method(ctx: typer.Context, name: str, given: dict[str, Any]) -> TransferMethod:
    """Make a method by name from the options that it takes; raise for options that it does not take."""
    from generators.transfer.methods import make_method, method_options

    taken = method_options(name)
    if taken is not None:
        others = [option for option in _OF_METHODS if option not in taken]
        options.reject_options(ctx, others, f"does not apply to --method {name}. Leave it out.")
    wanted = {option: value for option, value in given.items() if taken is None or option in taken}
    return make_method(name, **wanted)


def _layers(text: str | None) -> Iterable[int] | None:
    found = layers_option(text)
    if isinstance(found, str):
        raise InvalidInputError("--layers 'all' would guide by every layer. Name some, such as '13,17'.")
    return found


def _rates(text: str | None) -> tuple[float, float] | None:
    """Parse the first and the last learning rate; None means the method's own."""
    if text is None:
        return None
    try:
        first, last = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidInputError(
            f"--learning-rate {text!r} is not two numbers, the first and the last. Write for example '0.002,0.001'."
        ) from error
    return first, last
