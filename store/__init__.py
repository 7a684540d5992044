"""Data at rest: token layout, selection and plan, recordings, clips and synthetic scenes. No torch here."""

from store.clip import Clip
from store.layout import TokenLayout
from store.plan import Plan, PlannedArray
from store.selection import Selection
from store.video import read_clip, write_clip

__all__ = ["Clip", "Plan", "PlannedArray", "Selection", "TokenLayout", "read_clip", "write_clip"]
