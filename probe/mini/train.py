"""Train a mini backbone: ``python -m probe.mini.train --out runs/mini``, with ``--rotary`` for mini-rope.

Every batch, timestep and noise is drawn from the seed and the step's number alone, so a stopped training that is
started again with the same command goes on exactly where its last checkpoint was. Other settings are refused.
"""

from __future__ import annotations

import argparse
import csv
import pickle
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader, Dataset

from probe.loading import resolve_device
from probe.mini.model import MiniConfig, new_pipeline, save_mini
from probe.mini.progress import record_progress
from store.errors import DitprobeError, InvalidInputError
from store.scene import FIRST_TRAINING_SEED, make_scene

_SCENES_OF_A_SEED = 2**32


@dataclass(frozen=True)
class TrainConfig:
    """What decides the weights. The learning rate warms up, stays, and falls to zero over the last ``decay`` share.

    Clips grow during the training: a share ``small`` of the steps sees 0.6 times the final height and width, the next
    ``medium`` 0.8 times, the others the final size (a share ``wide`` of them 0.8 by 1.2 times, or 1.2 by 0.8).
    Timesteps are 1000 u^e for uniform u, so that an exponent e below one leans towards much noise, where the prompt
    decides most; it is ``small_exponent`` for the small clips, then ``exponent``.
    """

    steps: int = 10_000
    batch: int = 8
    learning_rate: float = 1.5e-3
    warm_up: int = 200
    decay: float = 0.3
    weight_decay: float = 0.01
    prompt_dropout: float = 0.1
    small: float = 0.4
    medium: float = 0.2
    wide: float = 0.3
    small_exponent: float = 0.3
    exponent: float = 0.8
    ema: float = 0.999
    seed: int = 0
    optimiser: str = "muon"

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch": 1, "warm_up": 1, "seed": 0, "weight_decay": 0}
        for name, low in least.items():
            if not getattr(self, name) >= low:
                raise InvalidInputError(f"{name} must be at least {low}; got {getattr(self, name)}.")
        for name in ("decay", "prompt_dropout", "ema", "small", "medium", "wide"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInputError(f"{name} must lie between 0 and 1; got {getattr(self, name)}.")
        for name in ("learning_rate", "small_exponent", "exponent"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InvalidInputError(f"{name} must be above 0; got {getattr(self, name)}.")
        if self.optimiser not in ("muon", "adamw"):
            raise InvalidInputError(f"optimiser {self.optimiser!r} is unknown. Known: 'muon', 'adamw'.")

    @property
    def constant_until(self) -> int:
        """Steps before which neither the learning rate nor the size of the clips depends on ``steps``."""
        shares = [1 - self.decay, *(share for share in (self.small, self.small + self.medium) if share > 0)]
        return int(min(shares) * self.steps)

    def size(self, step: int, height: int, width: int) -> tuple[int, int]:
        """Height and width of the clips of a step in pixels, whole cells of 4."""
        tall = across = self.scale(step)
        draw = np.random.default_rng([self.seed, step, 1]).random()
        if tall == 1.0 and draw < self.wide:
            tall, across = (0.8, 1.2) if draw < self.wide / 2 else (1.2, 0.8)
        return _whole_cells(tall * height), _whole_cells(across * width)

    def scale(self, step: int) -> float:
        """How large the clips of a step are, of the final size."""
        share = step / self.steps
        return 0.6 if share < self.small else 0.8 if share < self.small + self.medium else 1.0

    def timesteps(self, step: int, uniform: torch.Tensor) -> torch.Tensor:
        """Uniform numbers in 0 to 1 as the timesteps of a step."""
        exponent = self.small_exponent if step / self.steps < self.small else self.exponent
        return (1000 * uniform**exponent).long().clamp(max=999)  # float32 rounds the largest up to 1000

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        falling = (self.steps - step) / max(1.0, self.decay * self.steps)
        return self.learning_rate * min(1.0, (step + 1) / self.warm_up, max(falling, 0.0))


def _whole_cells(length: float) -> int:
    return 4 * max(1, round(length / 4))


class _Scenes(Dataset):
    """Batch ``step`` of the training set; scenes never repeat."""

    def __init__(self, mini: MiniConfig, config: TrainConfig) -> None:
        self.mini, self.config = mini, config

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> tuple[torch.Tensor, list[str]]:
        # apart by more than any training draws, so that what a step sees does not depend on the number of steps
        first = FIRST_TRAINING_SEED + self.config.seed * _SCENES_OF_A_SEED + step * self.config.batch
        height, width = self.config.size(step, self.mini.height, self.mini.width)
        clips = [make_scene(first + index, self.mini.images, height, width) for index in range(self.config.batch)]
        dropped = np.random.default_rng([self.config.seed, step]).random(self.config.batch)
        prompts = [
            "" if drop < self.config.prompt_dropout else clip.prompt or ""
            for clip, drop in zip(clips, dropped, strict=True)
        ]
        return torch.from_numpy(np.stack([clip.images for clip in clips])), prompts


class Average:
    """Exponential moving average of a module's parameters, with a warm-up."""

    def __init__(self, modules: Iterable[nn.Module], decay: float) -> None:
        self.decay = decay
        self.parameters: list[torch.Tensor] = [p for module in modules for p in module.parameters()]
        self.values = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the averages towards the current parameters."""
        weight = 1 - min(self.decay, (step + 1) / (step + 10))
        torch._foreach_lerp_(self.values, self.parameters, weight)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange averages and parameters (twice restores)."""
        for value, parameter in zip(self.values, self.parameters, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(kept)


def _optimisers(pipeline: Any, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' attention and feed-forward matrices, AdamW for everything else."""
    named = [*pipeline.transformer.named_parameters(), *pipeline.text_encoder.named_parameters()]
    matrices = [p for name, p in named if p.ndim == 2 and (".attn1.to_" in name or ".ff.net" in name)]
    if config.optimiser != "muon":
        matrices = []
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in chosen]
    options: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    found: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, betas=(0.9, 0.99), fused=True, **options)]
    if matrices:
        found.append(torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw", **options))
    return found


class _PlainAttention(TorchFunctionMode):
    """Attention as two bfloat16 products and a softmax: on a CPU three times as fast to train as the fused kernel."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        with torch.autocast("cpu", enabled=False):
            q, k, v = (tensor.to(torch.bfloat16) for tensor in args[:3])
            return torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2), -1) @ v


def _loss(pipeline: Any, batch: tuple[torch.Tensor, list[str]], step: int, config: TrainConfig) -> torch.Tensor:
    """Mean squared error of the predicted velocity at a random timestep per clip."""
    device = pipeline.transformer.device
    images, prompts = batch
    generator = torch.Generator().manual_seed((config.seed << 32) + step)
    video = images.to(device).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    latents = pipeline.vae.encode(video).latent_dist.mode().transpose(1, 2) * pipeline.vae.config.scaling_factor
    noise = torch.randn(latents.shape, generator=generator).to(device)
    timesteps = config.timesteps(step, torch.rand(len(latents), generator=generator)).to(device)
    words = pipeline.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    text = pipeline.text_encoder(words.to(device))[0]
    scheduler = pipeline.scheduler
    target = scheduler.get_velocity(latents, noise, timesteps)
    # the cells of smaller clips stand as far apart as makes them fill the final picture (rotary ones always do)
    pipeline.transformer.patch_embed.spatial_interpolation_scale = config.scale(step)
    rotary = None
    if pipeline.transformer.config.use_rotary_positional_embeddings:
        rotary = pipeline._prepare_rotary_positional_embeddings(*video.shape[-2:], latents.shape[1], device)
    plain = _PlainAttention() if device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, torch.bfloat16), plain:
        predicted = pipeline.transformer(
            hidden_states=scheduler.add_noise(latents, noise, timesteps),
            encoder_hidden_states=text,
            timestep=timesteps,
            image_rotary_emb=rotary,
            return_dict=False,
        )[0]
    return (predicted.float() - target).square().mean()


def _checkpoint(
    path: Path, step: int, settings: dict[str, Any], pipeline: Any, optimisers: list[Any], average: Average
) -> None:
    state = {
        "step": step,
        "settings": settings,
        "transformer": pipeline.transformer.state_dict(),
        "text_encoder": pipeline.text_encoder.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
        "average": average.values,
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def _settings(mini: MiniConfig, config: TrainConfig) -> dict[str, Any]:
    """All that decides the weights, by name."""
    return {**asdict(config), **asdict(mini)}


def _load_checkpoint(path: Path, device: torch.device) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise InvalidInputError(
            f"{path} is damaged or no checkpoint. Remove it or train into another folder."
        ) from error
    return state


def _check_settings(path: Path, state: dict[str, Any], mini: MiniConfig, config: TrainConfig) -> None:
    """Refuse to go on with other settings than those of the steps that are done.

    Raises
    ------
    InvalidInputError
    """
    before, now, done = state.get("settings"), _settings(mini, config), int(state["step"])
    if before is None:
        raise InvalidInputError(
            f"{path} was written before checkpoints kept their settings, so whether they are the same is unknown. "
            "Train into another folder."
        )
    changed = sorted(name for name in {*before, *now} - {"steps"} if before.get(name) != now.get(name))
    if changed:
        difference = "; ".join(f"{name} was {before.get(name)!r}, now {now.get(name)!r}" for name in changed)
        raise InvalidInputError(
            f"{path} was trained with other settings: {difference}. Go on with the same ones, or train into another "
            "folder."
        )
    if config.steps < done:
        raise InvalidInputError(
            f"{path} has {done} steps already; steps={config.steps} is less. Go on with steps={before['steps']}, or "
            "train into another folder."
        )
    # the rate and the sizes of the steps done must have been the same under both numbers
    if config.steps != before["steps"]:
        constant = min(
            TrainConfig(**{**asdict(config), "steps": n}).constant_until for n in (config.steps, before["steps"])
        )
        if done > constant:
            raise InvalidInputError(
                f"{path} has {done} steps of a training of {before['steps']}; in one of {config.steps} the learning "
                f"rate or the size of the clips would have been another after step {constant}. Go on with "
                f"steps={before['steps']}, or train into another folder."
            )


def _resume(state: dict[str, Any], pipeline: Any, optimisers: list[Any], average: Average) -> int:
    pipeline.transformer.load_state_dict(state["transformer"])
    pipeline.text_encoder.load_state_dict(state["text_encoder"])
    for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    for value, saved in zip(average.values, state["average"], strict=True):
        value.copy_(saved)
    return int(state["step"])


def _batches(
    mini: MiniConfig, config: TrainConfig, start: int, workers: int
) -> Iterator[tuple[torch.Tensor, list[str]]]:
    scenes = _Scenes(mini, config)
    loader = DataLoader(scenes, batch_size=None, sampler=range(start, config.steps), num_workers=workers)
    yield from loader


def train(
    out: str | Path,
    mini: MiniConfig | None = None,
    config: TrainConfig | None = None,
    *,
    device: str = "auto",
    workers: int = 1,
    save_every: int = 500,
    on_save: Callable[[int], object] | None = None,
) -> Path:
    """Train, or go on training, a mini backbone.

    Parameters
    ----------
    out : folder
        Receives ``checkpoint.pt``, ``log.csv`` (step, loss, learning rate, seconds) and ``weights/``, the averaged
        weights that :func:`probe.mini.load_mini` reads; all three are renewed every ``save_every`` steps.
    device : "auto" is a GPU where there is one.
    workers : int
        Processes that draw scenes.
    on_save : callable, optional
        Called with the number of steps done after each saving.

    Returns
    -------
    Path
        The folder of weights.

    Raises
    ------
    InvalidInputError
        Before anything is trained: a device that is not there, or a checkpoint in ``out`` of other settings. The
        number of steps alone may change, while the learning rate has not begun to fall under either number.
    """
    mini, config, out = mini or MiniConfig(), config or TrainConfig(), Path(out)
    for name, value, low in (("workers", workers, 0), ("save_every", save_every, 1)):
        if value < low:
            raise InvalidInputError(f"{name} must be at least {low}; got {value}.")
    target, saved = resolve_device(device), out / "checkpoint.pt"
    out.mkdir(parents=True, exist_ok=True)
    state = _load_checkpoint(saved, target)
    if state is not None:
        _check_settings(saved, state, mini, config)
    torch.manual_seed(config.seed)
    pipeline: Any = new_pipeline(mini)
    pipeline.to(target)
    modules = [pipeline.transformer.train(), pipeline.text_encoder.train()]
    optimisers, average = _optimisers(pipeline, config), Average(modules, config.ema)
    start = 0 if state is None else _resume(state, pipeline, optimisers, average)
    if start == config.steps:
        _save_weights(pipeline, average, out / "weights")
        print(f"{out} has all {config.steps} steps already: nothing left to train.", flush=True)
        return out / "weights"
    losses: list[float] = []
    began = time.monotonic()
    for step, batch in enumerate(_batches(mini, config, start, workers), start):
        for group in (group for optimiser in optimisers for group in optimiser.param_groups):
            group["lr"] = config.rate(step)
        loss = _loss(pipeline, batch, step, config)
        loss.backward()
        nn.utils.clip_grad_norm_([p for module in modules for p in module.parameters()], 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        average.update(step)
        losses.append(loss.item())
        if (step + 1) % save_every == 0 or step + 1 == config.steps:
            _log(out / "log.csv", step + 1, float(np.mean(losses)), config.rate(step), time.monotonic() - began)
            losses.clear()
            _checkpoint(saved, step + 1, _settings(mini, config), pipeline, optimisers, average)
            _save_weights(pipeline, average, out / "weights")
            if on_save is not None:
                on_save(step + 1)
    return out / "weights"


def _save_weights(pipeline: Any, average: Average, folder: Path) -> None:
    average.swap()
    save_mini(pipeline, folder)
    average.swap()


def _log(path: Path, step: int, loss: float, rate: float, seconds: float) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", "loss", "learning_rate", "seconds"])
        writer.writerow([step, f"{loss:.5f}", f"{rate:.3g}", f"{seconds:.1f}"])
    print(f"step {step:6d}  loss {loss:.4f}  {seconds:7.0f} s", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of the training: exit code 2 for bad settings, 1 for failure, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], prog="python -m probe.mini.train")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and weights")
    parser.add_argument("--rotary", action="store_true", help="rotary positions (mini-rope) instead of added sinusoids")
    parser.add_argument("--steps", type=int, default=TrainConfig.steps)
    parser.add_argument("--batch", type=int, default=TrainConfig.batch)
    parser.add_argument("--learning-rate", type=float, default=TrainConfig.learning_rate)
    parser.add_argument("--optimiser", choices=["muon", "adamw"], default=TrainConfig.optimiser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw scenes")
    parser.add_argument("--save-every", type=int, default=500)
    options = vars(parser.parse_args(arguments))
    try:
        config = TrainConfig(**{name: options.pop(name) for name in asdict(TrainConfig()) if name in options})
        out, mini = options.pop("out"), MiniConfig(rotary=options.pop("rotary"))
        train(out, mini, config, on_save=partial(record_progress, out), **options)
    except DitprobeError as error:
        return _said(f"error: {error}", 2)
    except OSError as error:
        return _said(f"error: {error}", 1)
    except KeyboardInterrupt:
        return _said("interrupted. The same command goes on from the last checkpoint.", 130)
    return 0


def _said(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
