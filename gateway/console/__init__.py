"""A process of its own: health page and metrics."""
