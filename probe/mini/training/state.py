"""State that a training carries from step to step, and its checkpoint: weights, their averages and the optimisers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from probe.mini.model import MiniConfig, load_mini, new_pipeline, save_mini
from probe.mini.training.schedule import TrainConfig
from store.errors import InvalidInputError
from store.files.atomic import atomic_write
from store.files.damaged import damage_as
from store.wording import Wording

_Tensors = tuple[Tensor, ...] | list[Tensor]
_TRAINED = ("transformer", "text_encoder")
_POSITIONS = "use_rotary_positional_embeddings"


def _average(modules: nn.ModuleDict, decay: float) -> AveragedModel:
    """Exponential moving average of the weights, its decay at most (n + 1) / (n + 10) after n steps."""

    def update(averages: _Tensors, weights: _Tensors, steps: Tensor | int) -> None:
        decay_now = min(decay, int(steps) / (int(steps) + 9))
        get_ema_multi_avg_fn(decay_now)(averages, weights, steps)

    averaged = AveragedModel(modules, multi_avg_fn=update)
    averaged.n_averaged.fill_(1)  # the untrained weights count: at 0 the first update would replace them
    return averaged


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
    trained: nn.ModuleDict
    average: AveragedModel

    @classmethod
    def new(cls, mini: MiniConfig, config: TrainConfig, device: torch.device) -> TrainingState:
        """An untrained one; its weights follow from the seed."""
        torch.manual_seed(config.seed)
        pipeline: Any = new_pipeline(mini)
        pipeline.to(device)
        trained = nn.ModuleDict({name: getattr(pipeline, name).train() for name in _TRAINED})
        return cls(pipeline, _optimisers(pipeline, config), trained, _average(trained, config.ema))

    def start_from(self, folder: str) -> None:
        """Take over the weights of a mini backbone of the same configuration, positions aside.

        Words are matched by name: one that the other backbone did not know keeps its random embedding. Neither added
        nor rotary positions have weights, so a training of the one kind can start from the other.

        Raises
        ------
        InvalidInputError
            When it has another configuration.
        BackboneNotFoundError
        """
        before: Any = load_mini(folder)
        old, new = before.transformer.config, self.pipeline.transformer.config
        compared = (name for name in new if not name.startswith("_") and name != _POSITIONS)
        changed = sorted(name for name in compared if old.get(name) != new[name])
        if changed:
            difference = "; ".join(f"{name} is {old.get(name)!r}, not {new[name]!r}" for name in changed)
            raise InvalidInputError(f"this training cannot start from {folder}: its {difference}.")
        known, words = before.tokenizer.get_vocab(), self.pipeline.tokenizer.get_vocab()
        same = sorted(words.keys() & known.keys())
        embeddings = self.pipeline.text_encoder.get_input_embeddings().weight.detach().clone()
        theirs = before.text_encoder.get_input_embeddings().weight.detach()
        embeddings[[words[word] for word in same]] = theirs[[known[word] for word in same]].to(embeddings)
        before.text_encoder.set_input_embeddings(nn.Embedding.from_pretrained(embeddings))
        for name, module in self.trained.items():
            module.load_state_dict(getattr(before, name).state_dict())
        self.average.module.load_state_dict(self.trained.state_dict())

    def update(self, rate: float) -> None:
        """Change the weights by their gradients, which are clipped to a norm of 1 and then cleared."""
        nn.utils.clip_grad_norm_(self.trained.parameters(), 1.0)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.average.update_parameters(self.trained)

    def save_weights(self, folder: Path) -> None:
        """Write the averaged weights as a mini backbone."""
        averaged = dict(self.average.module.named_children())
        save_mini(type(self.pipeline)(**{**self.pipeline.components, **averaged}), folder)

    def save_checkpoint(self, path: Path, step: int, mini: MiniConfig, config: TrainConfig) -> None:
        """Write all that is needed to resume after ``step`` steps, atomically."""
        state = {
            "step": step,
            "settings": _settings(mini, config),
            "transformer": self.pipeline.transformer.state_dict(),
            "text_encoder": self.pipeline.text_encoder.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "average": [value.detach() for value in self.average.module.parameters()],
        }
        with atomic_write(path) as partial:
            torch.save(state, partial)

    def restore(self, saved: dict[str, Any]) -> int:
        """Take over a checkpoint, and return how many steps it has."""
        self.pipeline.transformer.load_state_dict(saved["transformer"])
        self.pipeline.text_encoder.load_state_dict(saved["text_encoder"])
        for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        with torch.no_grad():
            for value, average in zip(self.average.module.parameters(), saved["average"], strict=True):
                value.copy_(average)
        self.average.n_averaged.fill_(saved["step"] + 1)
        return int(saved["step"])


def _settings(mini: MiniConfig, config: TrainConfig) -> dict[str, Any]:
    """All that decides the weights, by name."""
    return {**asdict(config), **asdict(mini)}


def load_checkpoint(path: Path, device: torch.device, mini: MiniConfig, config: TrainConfig) -> dict[str, Any] | None:
    """A checkpoint of these settings, or None if there is none.

    Raises
    ------
    InvalidInputError
        When it is damaged, or was written with other settings. The number of steps alone may differ, as long as
        neither the learning rate nor the size of the clips of the steps done depends on it.
    """
    if not path.exists():
        return None
    remedy = "Remove it or train into another folder."
    with damage_as(InvalidInputError, f"{path} is damaged or not a checkpoint", remedy):
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        _check_settings(path, state, mini, config)
        return state


def _check_settings(path: Path, state: dict[str, Any], mini: MiniConfig, config: TrainConfig) -> None:
    """Reject settings other than those of the steps already done."""
    before, now, done = state.get("settings"), _settings(mini, config), int(state["step"])
    if before is None:
        raise InvalidInputError(
            f"{path} was written before checkpoints kept their settings, so whether they are the same is unknown. "
            "Train into another folder."
        )
    before = {"slots": False, **before}  # checkpoints from before there were slots
    changed = sorted(name for name in {*before, *now} - {"steps"} if before.get(name) != now.get(name))
    if changed:
        difference = "; ".join(f"{name} was {before.get(name)!r}, now {now.get(name)!r}" for name in changed)
        raise InvalidInputError(
            f"{path} was trained with other settings: {difference}. Continue with the same ones, or train into another "
            "folder."
        )
    if config.steps < done:
        raise InvalidInputError(
            Wording("{} has {} steps already; {steps} is less.", path, done, steps=config.steps),
            remedy=Wording("Continue with {steps}, or train into another folder.", steps=before["steps"]),
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
                remedy=Wording("Continue with {steps}, or train into another folder.", steps=before["steps"]),
            )
