"""Planning and making recordings."""
