"""Data at rest: token layout, selection and plan, recordings, clips and synthetic scenes. No torch here."""

from store.clips.clip import Clip
from store.clips.encoding import write_video
from store.clips.video import read_clip, write_clip
from store.datasets.read_clips import read_clips, read_difftrack, read_mtbench, tracks_without_video
from store.datasets.tapvid import iter_tapvid, read_tapvid, write_tapvid
from store.layout import TokenLayout
from store.plan import Plan, PlannedArray
from store.recordings.provenance import Provenance
from store.recordings.reader import Recording, open_recording
from store.recordings.verify import Damage
from store.recordings.writer import RecordingWriter
from store.scenes.prompt import ScenePrompt, parse_prompt
from store.scenes.scene import make_scene
from store.selection import Selection

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
