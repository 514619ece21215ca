"""Floor 2: what outlives a transaction: greylist, recipient answers."""
