"""Published figures, each with its source and its setting."""

from __future__ import annotations

from dataclasses import dataclass

DIFFTRACK = 'Nam et al., "Emergent Temporal Correspondences from Video Diffusion Transformers" (DiffTrack, 2025)'
DITFLOW = 'Pondaven et al., "Video Motion Transfer with Diffusion Transformers" (DiTFlow, CVPR 2025)'

SELECTED_LAYERS = {
    "THUDM/CogVideoX-2b": (17, 21, 13),
    "THUDM/CogVideoX-5b": (17, 18, 15),
    "hunyuanvideo-community/HunyuanVideo": (16, 33, 34),
    "THUDM/CogVideoX-5b-I2V": (11, 14, 15),
}
"""Layers that DiffTrack selects by the harmonic mean, best first, by model."""

TRACKERS = {
    "THUDM/CogVideoX-2b": "CogVideoX-2B",
    "THUDM/CogVideoX-5b": "CogVideoX-5B",
    "hunyuanvideo-community/HunyuanVideo": "HunyuanVideo",
}
"""Names in DiffTrack's table of trackers, by model."""


@dataclass(frozen=True)
class TrackingSetting:
    """Layer and step of DiffTrack's zero-shot tracking."""

    layer: int
    step: int
    steps: int


TRACKING_SETTINGS = {
    "THUDM/CogVideoX-2b": TrackingSetting(17, 49, 50),
    "THUDM/CogVideoX-5b": TrackingSetting(17, 49, 50),
    "hunyuanvideo-community/HunyuanVideo": TrackingSetting(16, 29, 30),
}

MOTION_FIDELITY = {
    "THUDM/CogVideoX-5b": {
        "all": {
            "none": 0.523,
            "injection": 0.608,
            "motionclone": 0.634,
            "moft": 0.726,
            "smm": 0.766,
            "ditflow": 0.785,
        },
        "caption": {"none": 0.524, "motionclone": 0.635, "smm": 0.782, "moft": 0.728, "ditflow": 0.790},
        "subject": {"none": 0.502, "motionclone": 0.640, "smm": 0.741, "moft": 0.728, "ditflow": 0.775},
        "scene": {"none": 0.544, "motionclone": 0.628, "smm": 0.776, "moft": 0.722, "ditflow": 0.789},
    },
    "THUDM/CogVideoX-2b": {
        "all": {
            "none": 0.513,
            "injection": 0.544,
            "motionclone": 0.565,
            "moft": 0.504,
            "smm": 0.688,
            "ditflow": 0.726,
        }
    },
}
"""Motion fidelity of DiTFlow's tables, by model, kind of prompt and method; "none" is the backbone alone."""
