"""The interface of a guidance method: a strategy, called at each step of a run.

The published methods as strategies:

* **DiTFlow on latents** (:mod:`generators.transfer.ditflow`): ``before(step)`` calls
  ``generators.sampling.optimise.minimise(step, {"latents": step.latents}, loss)`` in the first 20 % of the steps, with
  a loss that reads ``step.read([layer], latents=leaves["latents"]).captures[layer]`` and compares the flow of its
  query and key with the reference's; then ``step.latents = found["latents"]``.
* **DiTFlow on positions**: the same with ``step.positions.tensors()`` as leaves and
  ``step.read([layer], positions=type(step.positions)(**leaves))``; then ``step.positions = ...``, which both branches
  of guidance use. The strategy keeps the tables of the last step as its start for the next one. Injecting saved
  tables for a new prompt is ``step.positions = saved[step.number]`` and nothing else
  (:mod:`generators.transfer.embedding`).
* **SMM, MOFT** (:mod:`generators.transfer.smm`, :mod:`generators.transfer.moft`): as DiTFlow, with
  ``step.read([layer], latents=..., blocks=True).blocks[layer]``, the block's output (frame, y, x, channel).
* **MotionClone** (:mod:`generators.transfer.motion_clone`): as DiTFlow, on the rows of temporal attention that
  ``capture.query`` and ``capture.key`` give.
* **Key and value injection in block 0** (:mod:`generators.transfer.injection`): ``before(step)`` noises the
  reference's latents with ``step.schedule.noised(...)``, takes ``call = step.read([0], latents=noised).attention[0]``,
  and sets ``step.edit_attention(0, inject_video(call.key, call.value))`` for all branches.
* **Cross-attention guidance** (:mod:`generators.guidance.cross_attention`): ``delta(step, prediction)`` returns
  ``scale * (prediction - step.predict(editors={layer: editor}))``.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torch import Tensor

from generators.sampling.step import Run, Step


class Strategy:
    """A guidance method. Subclasses override what they need; by default each method does nothing.

    Several strategies act in the given order: each sees the latents, positions and edits of those before it, and the
    results of :meth:`delta` are added up.
    """

    def start(self, run: Run) -> None:
        """Called once before the model runs; raise here if the backbone or the size of the clip does not fit."""

    def attached(self, run: Run) -> AbstractContextManager[None]:
        """Context that is open while the model runs, entered after :meth:`start`, for parameters that a run adds."""
        return nullcontext()

    def before(self, step: Step) -> None:
        """Called at each step before the model predicts; set ``step.latents`` or ``step.positions``, or edit attention.

        Gradients are off; :func:`generators.sampling.optimise.minimise` and ``torch.enable_grad`` switch them on.
        """

    def delta(self, step: Step, prediction: Tensor) -> Tensor | None:
        """Return what to add to the prediction of every branch; called at each step with the conditional one (1, ...).

        Since it is added to each branch, the guided prediction changes by the same amount at any guidance scale.
        """
        return None
