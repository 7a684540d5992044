"""Recordings of queries and keys: the Zarr format, its writer and its reader."""
