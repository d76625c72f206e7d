"""Writes the pages that come from the code: docs/flags.md.

    python tools/pages.py
"""
from __future__ import annotations

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from forno.core import flags

DOCS = pathlib.Path(__file__).parents[1] / "docs"

if __name__ == "__main__": (DOCS / "flags.md").write_text(flags.page(), encoding="utf-8")
