"""Arrays by name with a header of JSON values in a safetensors file, both held by a digest."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from store.errors import CorruptRecordingError, DitprobeError, FormatVersionError
from store.files.digest import DIGEST, check_digest, digest_of_arrays
from store.files.outputs import OutputFile


@dataclass(frozen=True)
class TensorFile(OutputFile):
    """One kind of safetensors file.

    Parameters
    ----------
    kind, example, suffixes, damage, remedy : see :class:`store.files.outputs.OutputFile`
    key : str
        Key of the metadata that holds the header.
    version : int
        That is written, and the latest that is read.
    entry : str
        What an array is, before its name in the digest.

    Examples
    --------
    >>> import tempfile
    >>> files = TensorFile("kernel", "kernel.safetensors", key="kernel", version=1, entry="weight")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = files.save({"layer": 3}, {"up": np.zeros(2, np.float32)}, Path(folder, "kernel.safetensors"))
    ...     files.load(path)
    ({'version': 1, 'layer': 3}, {'up': array([0., 0.], dtype=float32)})
    """

    suffixes: tuple[str, ...] = (".safetensors",)
    damage: type[DitprobeError] = CorruptRecordingError
    key: str = field(kw_only=True)
    version: int = field(kw_only=True)
    entry: str = field(kw_only=True)

    def save(
        self,
        header: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
    ) -> Path:
        """Write arrays and their header atomically, and return the path.

        Raises
        ------
        InvalidInputError, OutputExistsError, RecordingError
            As :meth:`store.files.outputs.OutputFile.check`; RecordingError too when the disk is full.
        """
        path = Path(path)
        self.check(path, overwrite=overwrite)
        plain = json.loads(json.dumps({"version": self.version, **header}))
        metadata = {self.key: json.dumps({**plain, DIGEST: self._digest(plain, arrays)})}
        with self.writing(path) as partial:
            try:
                save_file(dict(arrays), partial, metadata)
            except SafetensorError as error:  # it wraps the system's error
                raise OSError(str(error)) from error
        return path

    def load(self, path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return header and arrays; to be called within :meth:`reading`, which words what a damaged file raises.

        Raises
        ------
        FormatVersionError
            When a later version wrote it.
        """
        with safe_open(path, framework="np") as file:
            header = self._header(path, file)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        check_digest(header.pop(DIGEST, None), self._digest(header, arrays))
        return header, arrays

    def load_header(self, path: Path) -> dict[str, Any]:
        """Return the header alone, whose digest is not checked; to be called within :meth:`reading`."""
        with safe_open(path, framework="np") as file:
            header = self._header(path, file)
        header.pop(DIGEST, None)
        return header

    def _header(self, path: Path, file: Any) -> dict[str, Any]:
        header: dict[str, Any] = json.loads((file.metadata() or {})[self.key])
        if header["version"] > self.version:
            raise FormatVersionError(
                f"{path} is of version {header['version']} of {self.kind}s; this ditprobe reads up to {self.version}. "
                "Upgrade it."
            )
        return header

    def _digest(self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
        named = {f"{self.entry} {name}": array for name, array in arrays.items()}
        return digest_of_arrays({**named, "header": json.dumps(header, sort_keys=True)})
