"""Scores of trackers on clips, kept in a file, so that an interrupted benchmark resumes."""

from __future__ import annotations

import json
from pathlib import Path

from probe import Backbone
from store.files.digest import digest_of_arrays


def weights_of(backbone: Backbone) -> str:
    """The name of a backbone with a digest of its weights, so that what was measured with others is not mixed in."""
    parameters = {
        f"{number} {name}": value.detach().float().cpu().numpy()
        for number, denoiser in enumerate(backbone.denoisers)
        for name, value in denoiser.named_parameters()
    }
    return f"{backbone.name} {digest_of_arrays(parameters)[:12]}"


class KeptScores:
    """Metrics in percent by backbone, tracker and clip: a line of JSON each, appended as soon as it is measured.

    Parameters
    ----------
    path : Path, optional
        None keeps them in memory alone.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._found: dict[tuple[str, str, str], dict[str, float]] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                one = json.loads(line)
                self._found[one["backbone"], one["tracker"], one["clip"]] = one["metrics"]

    def get(self, backbone: str, tracker: str, clip: str) -> dict[str, float] | None:
        """Return what was measured, or None."""
        return self._found.get((backbone, tracker, clip))

    def put(self, backbone: str, tracker: str, clip: str, metrics: dict[str, float], seconds: float) -> None:
        """Keep what was measured, and the processor time that it took."""
        self._found[backbone, tracker, clip] = metrics
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            line = {"backbone": backbone, "tracker": tracker, "clip": clip, "metrics": metrics, "seconds": seconds}
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
