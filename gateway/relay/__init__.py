"""Floor 5: the way out. Enforced TLS, a pool of connections, truthful answers."""
