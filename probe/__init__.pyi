"""Public names of probe."""

# Models
from probe.loading.load_backbone import load_backbone as load_backbone
from probe.families.registry import register_family as register_family
from probe.backbones.backbone import Backbone as Backbone
from probe.backbones.layers import LayerInfo as LayerInfo
from probe.backbones.schedule import Schedule as Schedule
from probe.backbones.settings import RunSettings as RunSettings
from probe.backbones.geometry import Size as Size

# Runs
from probe.run.run import (
    run_clip as run_clip,
    run_prompt as run_prompt,
    run_states as run_states,
    pass_count as pass_count,
    State as State,
)
from store.selection import Noise as Noise
from probe.run.forward import ForwardPass as ForwardPass

# Captures
from probe.capture.probe import Probe as Probe
from probe.capture.capture import (
    Capture as Capture,
    Sink as Sink,
)
from probe.attention.tap import (
    AttentionTap as AttentionTap,
    AttentionCall as AttentionCall,
)
