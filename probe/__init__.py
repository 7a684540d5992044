"""Probing video diffusion transformers: their queries and keys, while they sample or look at a clip."""

from probe.attention.tap import AttentionCall, AttentionTap
from probe.backbones.backbone import Backbone, LayerInfo
from probe.backbones.geometry import Size
from probe.backbones.schedule import Schedule
from probe.capture.capture import Capture, Sink
from probe.capture.probe import Probe
from probe.loading.load_backbone import load_backbone
from probe.run.forward import ForwardPass
from probe.run.run import Noise, State, pass_count, run_clip, run_prompt, run_states

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
