"""Public names of generators."""

# Sampling
from generators.sampling.sample import (
    sample as sample,
    GuidedSampling as GuidedSampling,
)
from generators.sampling.strategy import Strategy as Strategy
from generators.sampling.step import (
    Run as Run,
    Step as Step,
)
from generators.sampling.optimise import minimise as minimise

# Edits of attention
from probe.attention.edit import (
    Attention as Attention,
    Editor as Editor,
    inject as inject,
)
from probe.attention.positions import (
    Positions as Positions,
    RotaryPositions as RotaryPositions,
    AddedPositions as AddedPositions,
)

# Guidance
from generators.guidance.cross_attention import (
    CrossAttentionGuidance as CrossAttentionGuidance,
    within_frames as within_frames,
)
from analyses.selection.guided import guided_layers as guided_layers
from generators.guidance.diffusers_guider import CrossAttentionGuider as CrossAttentionGuider
from generators.errors import GuidanceDivergedError as GuidanceDivergedError

# Motion transfer
from generators.transfer.motion_transfer import (
    transfer_motion as transfer_motion,
    MotionTransfer as MotionTransfer,
    Transferred as Transferred,
)
from generators.transfer.method import TransferMethod as TransferMethod
from generators.transfer.optimised import OptimisedMethod as OptimisedMethod
from generators.transfer.reference_clip import (
    Reference as Reference,
    TransferWarning as TransferWarning,
    fit_reference as fit_reference,
)

# Transfer methods
from generators.transfer.methods import (
    METHODS as METHODS,
    make_method as make_method,
    register_method as register_method,
)
from generators.transfer.ditflow import DiTFlow as DiTFlow
from generators.transfer.smm import (
    SMM as SMM,
    smm_loss as smm_loss,
)
from generators.transfer.moft import (
    MOFT as MOFT,
    moft_loss as moft_loss,
    motion_channels as motion_channels,
)
from generators.transfer.motion_clone import (
    MotionClone as MotionClone,
    motion_clone_loss as motion_clone_loss,
    temporal_attention as temporal_attention,
)
from generators.transfer.injection import (
    Injection as Injection,
    inject_video as inject_video,
)
from generators.transfer.embedding import (
    InjectMotion as InjectMotion,
    MotionEmbedding as MotionEmbedding,
)
from generators.transfer.embedding_files import (
    save_embedding as save_embedding,
    load_embedding as load_embedding,
)
from generators.transfer.method import PlainBackbone as PlainBackbone

# Attention motion flow
from analyses.flow.attention_flow import (
    attention_motion_flow as attention_motion_flow,
    amf_loss as amf_loss,
    labelled_flow as labelled_flow,
)
from analyses.flow.reference_flow import reference_flow as reference_flow
from analyses.flow.files import (
    save_flow as save_flow,
    load_flow as load_flow,
)

# Layers of a clip
from probe.run.layers_of_clip import (
    Reading as Reading,
    layers_of_clip as layers_of_clip,
)

# Trained motion transfer
from generators.adapters.det import (
    DeT as DeT,
    DreamBooth as DreamBooth,
    InvertedMotion as InvertedMotion,
)
from generators.adapters.decoupled.follow_your_motion import FollowYourMotion as FollowYourMotion
from generators.adapters.decoupled.lora import DecoupledLoRA as DecoupledLoRA
from generators.adapters.decoupled.groups import head_groups as head_groups
from generators.adapters.decoupled.losses import motion_loss as motion_loss
from generators.adapters.fitted import (
    AttachAdapter as AttachAdapter,
    FittedMotion as FittedMotion,
    TrainedMethod as TrainedMethod,
)
from generators.adapters.training.settings import Training as Training, Losses as Losses
from generators.adapters.training.train import train_adapter as train_adapter
from generators.adapters.files import (
    save_adapter as save_adapter,
    load_adapter as load_adapter,
)
from generators.adapters.adapter import MotionAdapter as MotionAdapter
from generators.adapters.temporal_kernel import TemporalKernel as TemporalKernel
from generators.adapters.lora import LoRA as LoRA
from generators.adapters.motion_inversion import MotionInversion as MotionInversion
from generators.adapters.arms import (
    SpaceTimeKernel as SpaceTimeKernel,
    LocalAttention as LocalAttention,
    TokenMLP as TokenMLP,
)
from generators.adapters.training.losses import (
    denoising_loss as denoising_loss,
    point_tracking_loss as point_tracking_loss,
)
from generators.adapters.motion_tracks import (
    MotionTracks as MotionTracks,
    tracks_of as tracks_of,
)
from generators.errors import TrainingDivergedError as TrainingDivergedError
