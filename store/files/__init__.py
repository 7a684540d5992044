"""Files written atomically, with detection of damage, read without trusting their content."""
