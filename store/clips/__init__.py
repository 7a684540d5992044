"""Clips and the video files that hold them."""
