"""Numbers of any kind as NumPy arrays, also those of tensors, without torch."""

from __future__ import annotations

from typing import Any

import numpy as np


def as_array(values: Any) -> np.ndarray:
    """Return the same numbers as a NumPy array, also those of a tensor with gradients, on a device or in bfloat16.

    Examples
    --------
    >>> as_array([[1, 2]])
    array([[1, 2]])
    """
    if not hasattr(values, "detach"):
        return np.asarray(values)
    values = values.detach().cpu()
    return np.asarray(values.float() if str(values.dtype) == "torch.bfloat16" else values)  # NumPy has no such kind
