"""Probing video diffusion transformers: their queries and keys, while they sample or look at a clip."""

from probe.backbone import Backbone, LayerInfo
from probe.capture import Capture, Sink
from probe.forward import ForwardPass
from probe.geometry import Size
from probe.loading import load_backbone
from probe.probe import Probe
from probe.run import Noise, State, pass_count, run_clip, run_prompt, run_states
from probe.schedule import Schedule
from probe.tap import AttentionCall, AttentionTap

__all__ = [
    "AttentionCall",
    "AttentionTap",
    "Backbone",
    "Capture",
    "ForwardPass",
    "LayerInfo",
    "Noise",
    "Probe",
    "Schedule",
    "Sink",
    "Size",
    "State",
    "load_backbone",
    "pass_count",
    "run_clip",
    "run_prompt",
    "run_states",
]
