"""Last good values of a run or a training that diverged, saved to a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save

from generators.errors import LESS_GUIDANCE, GuidanceDivergedError, TrainingDivergedError
from store.files.atomic import atomic_write


@contextmanager
def save_latents_on_divergence(clip: Path) -> Iterator[None]:
    """Save the latents of the step at which guidance diverges, next to the output path, and name the file in the error.

    Parameters
    ----------
    clip : path of the clip; the latents go to ``<name>.step<step>.safetensors``, under the name ``latents``

    Raises
    ------
    GuidanceDivergedError
        Again, with the path in its message.

    Examples
    --------
    >>> import tempfile, torch
    >>> from safetensors.torch import load_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     try:
    ...         with save_latents_on_divergence(Path(folder, "fox.mp4")):
    ...             raise GuidanceDivergedError("the loss is nan.", step=3, latents=torch.ones(1, 2))
    ...     except GuidanceDivergedError:
    ...         print(load_file(f"{folder}/fox.step3.safetensors"))
    {'latents': tensor([[1., 1.]])}
    """
    try:
        yield
    except GuidanceDivergedError as error:
        path = clip.with_name(f"{clip.stem}.step{error.step}.safetensors")
        try:
            with atomic_write(path) as partial:
                partial.write_bytes(save({"latents": error.latents.cpu().contiguous()}))
        except OSError:
            raise error from None  # the reason why the run ended is more important than a full disk
        remedy = f"The latents with which that step began are kept in {path}. {LESS_GUIDANCE}"
        raise GuidanceDivergedError(error.message, remedy=remedy, step=error.step, latents=error.latents) from error


@contextmanager
def save_adapter_on_divergence(out: Path) -> Iterator[None]:
    """Save the last good parameters of a training that diverges, next to the output path, and name the file.

    Parameters
    ----------
    out : path of the adapter; the last good one goes to ``<name>.step<step>.safetensors``

    Raises
    ------
    TrainingDivergedError
        Again, with the path in its message.
    """
    try:
        yield
    except TrainingDivergedError as error:
        from generators.adapters.files import save_adapter

        path = out.with_name(f"{out.stem}.step{error.step}.safetensors")
        try:
            save_adapter(error.adapter, path, overwrite=True)
        except OSError:
            raise error from None  # the reason why the training ended is more important than a full disk
        remedy = f"They are kept in {path}."
        raise TrainingDivergedError(f"{error} {remedy}", step=error.step, adapter=error.adapter) from error
