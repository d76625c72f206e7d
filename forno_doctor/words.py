"""Sentences in a person's language, from catalogues: messages/<language>/<area>.json.

Comes in: a key ("cpu-build.title") and the values that its sentence names. Goes out: text. English has every key; what another language lacks is said in English.
"""
from __future__ import annotations

import json
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "messages"
LANGUAGES = "en", "zh"


@cache
def catalogue(language: str) -> dict[str, str]:
    """All areas of a language as one: "id.part" to a sentence."""
    found: dict[str, str] = {}
    for file in sorted((FOLDER / language).glob("*.json")):
        for name, parts in json.loads(file.read_text(encoding="utf-8")).items():
            for part, text in parts.items(): found[f"{name}.{part}"] = text
    return found


def language(environment: dict) -> str:
    """Of a person, by the variables that name it, in the order in which programs heed them (gettext's manual, "Locale Environment Variables")."""
    named = next((environment[v] for v in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG") if environment.get(v)), "")
    return "zh" if named.lower().startswith("zh") else "en"


class Words:
    def __init__(self, language: str = "en"):
        if language not in LANGUAGES: raise ValueError(f"no catalogue for {language!r}: there are {', '.join(LANGUAGES)}")
        self.language = language

    def __call__(self, key: str, **data) -> str:
        """A sentence with its values; a key that no catalogue has is an error of the program."""
        text = catalogue(self.language).get(key) or catalogue("en")[key]
        return text.format(**data)

    def has(self, key: str) -> bool: return key in catalogue("en")
