"""Data at rest: token layout, selection and plan, recordings, clips and synthetic scenes. No torch here."""

from store.clip import Clip
from store.encoding import write_video
from store.layout import TokenLayout
from store.plan import Plan, PlannedArray
from store.prompt import ScenePrompt, parse_prompt
from store.provenance import Provenance
from store.readers import read_clips, read_difftrack, read_mtbench, tracks_without_video
from store.recording import Recording, open_recording
from store.recording_verify import Damage
from store.recording_writer import RecordingWriter
from store.scene import make_scene
from store.selection import Selection
from store.tapvid import iter_tapvid, read_tapvid, write_tapvid
from store.video import read_clip, write_clip

__all__ = [
    "Clip",
    "Damage",
    "Plan",
    "PlannedArray",
    "Provenance",
    "Recording",
    "RecordingWriter",
    "ScenePrompt",
    "Selection",
    "TokenLayout",
    "iter_tapvid",
    "make_scene",
    "open_recording",
    "parse_prompt",
    "read_clip",
    "read_clips",
    "read_difftrack",
    "read_mtbench",
    "read_tapvid",
    "tracks_without_video",
    "write_clip",
    "write_tapvid",
    "write_video",
]
