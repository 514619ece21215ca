"""Gatepost: an SMTP-terminating security gateway (read `gateway/pipeline.py` first)."""

__version__ = "0.1.0"
