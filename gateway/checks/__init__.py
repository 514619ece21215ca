"""Floor 3: one file a fact, all of the same shape (`check.py`)."""
