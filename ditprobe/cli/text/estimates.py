"""Time estimates of planned runs, from measurements at a small size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ditprobe.cli.console import complain, say
from store.plan import format_bytes
from store.text import counted, duration

Use = Literal["sweep", "track", "heads", "record", "record a prompt", "transfer", "guide", "generate", "flow"]

if TYPE_CHECKING:
    from ditprobe.planning.model_plan import ModelPlan
    from generators.transfer.method import TransferMethod
    from probe.backbones.backbone import Backbone
    from probe.backbones.geometry import Size


def tell_time(
    model: Backbone,
    calls: Sequence[tuple[Size, float]],
    *,
    steps: int,
    estimate: bool = True,
    extra: str = "",
    use: Use | None = None,
    beside: str | None = None,
) -> None:
    """Print the memory of a use of a model and the time of its calls, as the last lines of a plan.

    Parameters
    ----------
    model : as it was loaded, or planned
    calls : sizes of clips, and the number of calls of the transformer for each, which may be fractional
    steps : denoising steps of the run
    estimate : whether to measure; otherwise only the calls are counted
    extra : work that the estimate leaves out, added to the line
    use : use of the model, for its memory; None to leave that out
    beside : memory in words, for a use whose memory depends on more than the model
    """
    if use is not None and calls:
        largest = max((size for size, _ in calls), key=lambda size: size[0] * size[1] * size[2])
        tell_memory(model, largest, use, beside)
    total = round(sum(count for _, count in calls))
    if model.device.type == "meta":
        say("  weights   not loaded: planned from the configuration")
    if not estimate or not total:
        say(f"  time      not estimated; {counted(total, 'call')} of the model")
        return
    from probe.run.timing import all_tokens, time_call

    complain("measuring one step, small ...")
    largest = max((size for size, _ in calls), key=lambda size: all_tokens(model.layout(*size)))
    measured = time_call(model, largest, "", steps=steps)
    seconds = sum(count * measured.seconds(all_tokens(model.layout(*size))) for size, count in calls)
    say(f"  time      about {duration(seconds)} for {counted(total, 'call')} of the model{extra}")
    say(f"            {measured.how}")


def tell_memory(model: Backbone, size: Size, use: Use, beside: str | None = None) -> None:
    """Print the memory of a use of a model in addition to its weights and activations, and that of decoding a clip.

    Parameters
    ----------
    model : as it was loaded, or planned
    size : of the largest clip
    use : use of the model
    beside : memory in words, for a use whose memory depends on more than the model
    """
    from ditprobe.planning.memory import free_bytes

    plan = planned_memory(model, size)
    added = {
        "sweep": plan.sweep_bytes,
        "track": plan.tracking_bytes,
        "heads": plan.heads_bytes,
        "record": plan.recorder_bytes[0],
        "guide": plan.guidance_bytes,
        "flow": plan.flow_bytes + plan.capture_bytes,
    }.get(use.split()[0])
    waiting = f", and {format_bytes(plan.recorder_bytes[1])} of the CPU's" if use.startswith("record") else ""
    if added is not None:
        beside = f"{format_bytes(added)}{waiting} in addition to the model"
    if beside is not None:
        say(f"  memory    at most about {beside}")
    if use in ("sweep", "track", "heads", "record", "flow"):
        return
    whole, tiled = plan.decoding_bytes(), bool(getattr(model.pipeline.vae, "use_tiling", False))
    free = free_bytes("cuda" if model.device.type == "meta" else model.device.type)
    if whole is None or tiled:
        say(f"  decoding  in tiles{'' if whole is None else f'; {format_bytes(whole)} in one piece'}")
        return
    advice = ""
    if free is not None and whole > free:
        advice = f", of which {format_bytes(free)} are free: pass --vae-tiling on"
    say(f"  decoding  {format_bytes(whole)} in one piece{advice}")


def planned_memory(model: Backbone, size: Size) -> ModelPlan:
    """Plan of a model at a size."""
    from ditprobe.planning.model_plan import ModelPlan
    from probe.loading.model_facts import facts_of_backbone

    return ModelPlan(facts_of_backbone(model), model.layout(*size))


def transfer_memory(
    model: Backbone, size: Size, methods: Sequence[TransferMethod], checkpointing: bool = False
) -> str | None:
    """Memory of the method of motion transfer that needs most, in words; None if none needs any of its own.

    Parameters
    ----------
    model : as it was loaded, or planned
    size : of the clip
    methods : methods that run one after the other
    checkpointing : with gradient checkpointing
    """
    kept, again, added = (
        max(each) for each in zip(*(_memory_of(model, size, method) for method in methods), strict=True)
    )
    if kept:
        used, other = (again, kept) if checkpointing else (kept, again)
        word = "without" if checkpointing else "with"
        return f"{format_bytes(used)} in addition to the weights ({format_bytes(other)} {word} gradient checkpointing)"
    return f"{format_bytes(added)} in addition to the model" if added else None


def _memory_of(model: Backbone, size: Size, method: TransferMethod) -> tuple[int, int, int]:
    """Memory of a method with gradients, also with checkpointing, weights aside; and of one without."""
    from generators.adapters.fitted import TrainedMethod
    from generators.adapters.training.plan import plan_training
    from generators.transfer.injection import Injection

    if isinstance(method, TrainedMethod):
        training = plan_training(method, model, size)
        return training.adapter + training.activations, training.adapter + training.checkpointed, 0
    plan, layers = planned_memory(model, size), method.layers_with_gradients(model)
    injected = isinstance(method, Injection) or getattr(method, "inject", False)
    added = plan.injection_bytes if injected else 0
    if not layers:
        return 0, 0, added
    positions = getattr(method, "optimise", None) == "positions"
    kept, again = (
        plan.optimising_bytes(layers, checkpointing=checkpointing, positions=positions)
        for checkpointing in (False, True)
    )
    return kept + added, again + added, 0


def run_cost(model: Backbone, arguments: Mapping[str, Any], clips: float = 1) -> tuple[Size, float]:
    """Return the size of a run's clips, and the number of transformer calls for a number of clips."""
    from probe.backbones.geometry import Size

    size = Size(arguments["height"], arguments["width"], arguments["num_frames"])
    branches = 2 if model.wants_guidance(arguments) else 1
    return size, clips * branches * arguments["num_inference_steps"]
