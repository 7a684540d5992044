"""Public names of store."""

# Token layout, selection and plan
from store.layout import TokenLayout as TokenLayout
from store.selection import Selection as Selection
from store.plan import (
    Plan as Plan,
    PlannedArray as PlannedArray,
)

# Clips
from store.clips.clip import Clip as Clip
from store.clips.video import (
    read_clip as read_clip,
    write_clip as write_clip,
)
from store.clips.encoding import write_video as write_video

# Synthetic scenes
from store.scenes.scene import make_scene as make_scene
from store.scenes.prompt import (
    ScenePrompt as ScenePrompt,
    parse_prompt as parse_prompt,
)

# Data sets
from store.datasets.difftrack import read_difftrack as read_difftrack
from store.datasets.difftrack import tracks_without_video as tracks_without_video
from store.datasets.mtbench import read_mtbench as read_mtbench
from store.datasets.read_clips import read_clips as read_clips
from store.datasets.tapvid import read_tapvid as read_tapvid, iter_tapvid as iter_tapvid
from store.datasets.tapvid_writing import write_tapvid as write_tapvid

# Recordings
from store.recordings.reader import (
    open_recording as open_recording,
    Recording as Recording,
)
from store.recordings.writer import RecordingWriter as RecordingWriter
from store.recordings.provenance import Provenance as Provenance
from store.recordings.verify import Damage as Damage
