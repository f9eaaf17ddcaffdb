"""The door: parse, call, print. The only place that prints."""

from __future__ import annotations

from arraysmith.cli.app import main

__all__ = ["main"]
