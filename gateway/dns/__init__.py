"""Floor 2: one caching, single-flight resolver over a stub or a zone file."""
