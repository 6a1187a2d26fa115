"""Where downloads live: images' parts, the chain's tools."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """${POOLWRIGHT_CACHE:-~/.cache/poolwright}"""
    return Path(os.environ.get("POOLWRIGHT_CACHE") or "~/.cache/poolwright").expanduser()
