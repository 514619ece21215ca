"""Floor 3: the edge. Octets in, commands and replies out."""
