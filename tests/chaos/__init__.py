"""Everything is killed at random, and no mail that was answered 250 is lost."""
