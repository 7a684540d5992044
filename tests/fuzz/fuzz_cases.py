"""All cases of the fuzz, and the public names that have none."""

from __future__ import annotations

import fuzz_cases_adapters
import fuzz_cases_analyses
import fuzz_cases_data
import fuzz_cases_generation
import fuzz_cases_tracking
from fuzz_world import CASES, World

__all__ = ["CASES", "NOT_CALLED", "World"]
MODULES = (fuzz_cases_adapters, fuzz_cases_data, fuzz_cases_analyses, fuzz_cases_generation, fuzz_cases_tracking)

_ADAPTERS = "not in the fuzz yet; wrong values are in the tests of adapters"
_MTBENCH = "not in the fuzz yet; wrong values are in the tests of MTBench"
NOT_CALLED = {
    "Backbone": "abstract; load_backbone makes it",
    "Recording": "open_recording makes it",
    "Capture Attention AttentionCall State Reading Run Step LayerInfo": "made by the library",
    "BadRecord Damage Transferred": "made by the library",
    "HeadSelection SweepSummary LayerSelection EndPointError PromptAgreement ObjectMotion": "made by the library",
    "ObjectCoherence": "made by the library",
    "CloserClip Example HeadExample TrackedClip TransferredClip": "checked where they are shown",
    "AddedPositions RotaryPositions Positions": "checked where they are used",
    "Strategy TransferMethod OptimisedMethod PlainBackbone Editor Noise Sink Size": "no arguments, or a kind",
    "GuidanceDivergedError TransferWarning": "an error, a warning",
    "to_images load_clip_encoder": "former names",
    "explore": "a widget of the notebook extra; its requests are tested with wrong values",
    "AttachAdapter DeT DreamBooth FittedMotion InvertedMotion LoRA LocalAttention Losses MotionAdapter": _ADAPTERS,
    "DecoupledLoRA FollowYourMotion": _ADAPTERS,
    "MotionInversion MotionTracks SpaceTimeKernel TemporalKernel TokenMLP TrainedMethod Training": _ADAPTERS,
    "TrainingDivergedError train_adapter": _ADAPTERS,
    "Difficulty Entry Measures evaluate_mtbench": _MTBENCH,
    "read_motionbench_entries read_mtbench_entries": "reads folders; broken ones are in its own tests",
    "ModelPlan": "made by the library",
    "RunSettings": "holds what public functions have checked",
    "register_family": "takes classes; incomplete ones are in its own tests",
    "METHODS TRACKERS TRACKING_METRICS TrackingMetric": "registries, and what is checked when it is registered",
}
"""Public names without a case, and why."""
