"""OpenCV, imported only where it is used: it is no requirement of the rest."""

from __future__ import annotations

from types import ModuleType

from store.errors import MissingOpenCVError


def opencv() -> ModuleType:
    """The module ``cv2``.

    Raises
    ------
    MissingOpenCVError
        Where OpenCV is not installed; says how to install it.

    Examples
    --------
    >>> opencv().__name__
    'cv2'
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingOpenCVError(
            "optical flow is computed with OpenCV, which is not installed; run: pip install 'ditprobe[vision]'"
        ) from error
    return cv2
