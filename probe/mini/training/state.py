"""State that a training carries from step to step, and its checkpoint: weights, their averages and the optimisers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from probe.mini.model import MiniConfig, load_mini, new_pipeline, save_mini
from probe.mini.training.schedule import TrainConfig
from store.errors import InvalidInputError
from store.files.atomic import atomic_write
from store.files.damaged import damage_as
from store.wording import Wording


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


@dataclass(frozen=True, eq=False)
class TrainingState:
    """The pipeline that is trained, its optimisers and the average of its weights."""

    pipeline: Any
    optimisers: list[torch.optim.Optimizer]
    average: Average

    @classmethod
    def new(cls, mini: MiniConfig, config: TrainConfig, device: torch.device) -> TrainingState:
        """An untrained one; its weights follow from the seed."""
        torch.manual_seed(config.seed)
        pipeline: Any = new_pipeline(mini)
        pipeline.to(device)
        modules = [pipeline.transformer.train(), pipeline.text_encoder.train()]
        return cls(pipeline, _optimisers(pipeline, config), Average(modules, config.ema))

    def start_from(self, folder: str) -> None:
        """Take over the weights of a mini backbone of the same configuration.

        Raises
        ------
        InvalidInputError
            When it has another configuration.
        BackboneNotFoundError
        """
        before: Any = load_mini(folder)
        old, new = before.transformer.config, self.pipeline.transformer.config
        changed = sorted(name for name in new if not name.startswith("_") and old.get(name) != new[name])
        if changed:
            difference = "; ".join(f"{name} is {old.get(name)!r}, not {new[name]!r}" for name in changed)
            raise InvalidInputError(f"this training cannot start from {folder}: its {difference}.")
        for name in ("transformer", "text_encoder"):
            getattr(self.pipeline, name).load_state_dict(getattr(before, name).state_dict())
        for value, parameter in zip(self.average.values, self.average.parameters, strict=True):
            value.copy_(parameter.detach())

    def update(self, step: int, rate: float) -> None:
        """Change the weights by their gradients, which are clipped to a norm of 1 and then cleared."""
        nn.utils.clip_grad_norm_(self.average.parameters, 1.0)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.average.update(step)

    def save_weights(self, folder: Path) -> None:
        """Write the averaged weights as a mini backbone."""
        self.average.swap()
        save_mini(self.pipeline, folder)
        self.average.swap()

    def save_checkpoint(self, path: Path, step: int, mini: MiniConfig, config: TrainConfig) -> None:
        """Write all that is needed to go on after ``step`` steps, atomically: a reader sees the old file or the new."""
        state = {
            "step": step,
            "settings": _settings(mini, config),
            "transformer": self.pipeline.transformer.state_dict(),
            "text_encoder": self.pipeline.text_encoder.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "average": self.average.values,
        }
        with atomic_write(path) as partial:
            torch.save(state, partial)

    def restore(self, saved: dict[str, Any]) -> int:
        """Take over a checkpoint, and return how many steps it has."""
        self.pipeline.transformer.load_state_dict(saved["transformer"])
        self.pipeline.text_encoder.load_state_dict(saved["text_encoder"])
        for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        for value, average in zip(self.average.values, saved["average"], strict=True):
            value.copy_(average)
        return int(saved["step"])


def _settings(mini: MiniConfig, config: TrainConfig) -> dict[str, Any]:
    """All that decides the weights, by name."""
    return {**asdict(config), **asdict(mini)}


def load_checkpoint(path: Path, device: torch.device, mini: MiniConfig, config: TrainConfig) -> dict[str, Any] | None:
    """A checkpoint of these settings, or None where there is none.

    Raises
    ------
    InvalidInputError
        When it is damaged, or was written with other settings. The number of steps alone may differ, as long as
        neither the learning rate nor the size of the clips of the steps done depends on it.
    """
    if not path.exists():
        return None
    remedy = "Remove it or train into another folder."
    with damage_as(InvalidInputError, f"{path} is damaged or no checkpoint", remedy):
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        _check_settings(path, state, mini, config)
        return state


def _check_settings(path: Path, state: dict[str, Any], mini: MiniConfig, config: TrainConfig) -> None:
    """Refuse to go on with other settings than those of the steps that are done."""
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
            Wording("{} has {} steps already; {steps} is less.", path, done, steps=config.steps),
            remedy=Wording("Go on with {steps}, or train into another folder.", steps=before["steps"]),
        )
    # the rate and the sizes of the steps done must have been the same under both numbers
    if config.steps != before["steps"]:
        constant = min(
            TrainConfig(**{**asdict(config), "steps": n}).constant_until for n in (config.steps, before["steps"])
        )
        if done > constant:
            raise InvalidInputError(
                f"{path} has {done} steps of a training of {before['steps']}; in one of {config.steps} the learning "
                f"rate or the size of the clips would have been another after step {constant}.",
                remedy=Wording("Go on with {steps}, or train into another folder.", steps=before["steps"]),
            )
