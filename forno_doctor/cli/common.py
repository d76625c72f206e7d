"""What several commands read from the command line."""
from __future__ import annotations

import os
import shutil


def interpreter(text: str) -> str:
    """A path that holds everywhere, because commands name it. An environment's folder stands for its interpreter; links stay, because they are what makes an environment."""
    inside = next((p for p in (os.path.join(text, *end) for end in (("bin", "python"), ("Scripts", "python.exe"), ("python.exe",))) if os.path.isfile(p)), None)
    if inside is None and not os.path.dirname(text): return shutil.which(text) or text
    return os.path.abspath(inside or text)
