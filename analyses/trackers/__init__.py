"""Point trackers with one interface, baselines included."""
