"""Floor 0: the nouns of RFC 5321, 5322 and 8601. Pure: no socket, no clock, no library but `idna`."""
