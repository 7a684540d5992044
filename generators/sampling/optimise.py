"""Gradient descent on the latents or positions of a step: the inner loop of DiTFlow and its baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from generators.sampling.step import Step
from store.arguments import checked
from store.checks import finite, shown
from store.errors import InvalidInputError

Loss = Callable[[dict[str, Tensor]], Tensor]


@checked
def minimise(
    step: Step, values: Mapping[str, Tensor], loss: Loss, *, learning_rates: Sequence[float]
) -> dict[str, Tensor]:
    """Minimise a loss over tensors with Adam (Kingma and Ba, 2015).

    Parameters
    ----------
    step : Step
        Where the loss is measured.
    values : mapping of tensors
        Start values, such as ``{"latents": step.latents}`` or ``step.positions.tensors()``; not changed.
    loss : callable
        Function of the tensors, which require gradients, that returns a scalar; usually through ``step.read``.
    learning_rates : sequence of float
        One for each iteration.

    Returns
    -------
    dict of tensors, float32, without gradients

    Raises
    ------
    InvalidInputError
        Without learning rates, or for a loss that does not depend on one of the tensors.
    GuidanceDivergedError
        When the loss or an updated tensor is not finite.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from probe.mini import new_pipeline
    >>> from generators.sampling.sample import sample
    >>> from generators.sampling.strategy import Strategy
    >>> losses = []
    >>> class Lower(Strategy):
    ...     def before(self, step):
    ...         def loss(values):
    ...             losses.append(step.read([1], latents=values["latents"]).captures[1].query[..., 0].mean())
    ...             return losses[-1]
    ...         step.latents = minimise(step, {"latents": step.latents}, loss, learning_rates=[0.02] * 3)["latents"]
    >>> _ = sample(load_backbone(new_pipeline()), "a red disc moves left over blue stripes", Lower(), steps=1)
    >>> bool(losses[2] < losses[0])
    True
    """
    if not values:
        raise InvalidInputError("values is empty: name at least one tensor to change.")
    if not len(learning_rates):
        raise InvalidInputError("learning_rates is empty: give one for each iteration.")
    learning_rates = [finite(rate, "a learning rate", min_value=0) for rate in learning_rates]
    with torch.enable_grad():
        leaves = {name: value.detach().float().clone().requires_grad_() for name, value in values.items()}
        optimiser = torch.optim.Adam(list(leaves.values()), lr=learning_rates[0])
        for iteration, rate in enumerate(learning_rates):
            optimiser.param_groups[0]["lr"] = rate
            error = loss(leaves)
            if not isinstance(error, Tensor) or error.numel() != 1:
                raise InvalidInputError(f"loss must return a scalar tensor; got {shown(error)}.")
            step.check_finite(error, f"the loss of iteration {iteration} is")
            gradients = torch.autograd.grad(error, list(leaves.values()), allow_unused=True)
            for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
                if gradient is None:
                    raise InvalidInputError(f"the loss does not depend on {name!r}, so nothing can be learnt about it.")
                leaf.grad = gradient
            optimiser.step()
    for name, leaf in leaves.items():
        step.check_finite(leaf, f"optimised {name} are")
    return {name: leaf.detach() for name, leaf in leaves.items()}
