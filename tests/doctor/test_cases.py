"""Worked cases: a machine and a wish, and the set that fits or why none does; each was derived by hand from the tables' rules, which `why` names.

cases.json: `input`: python, os, gpu (a name, a capability, or several), driver, want: torch, extras (names, or specifiers by name), tag, cpu, numpy; glibc.
`expect`: torch, extras, tag and `notes` that must be among them; or the reason and what must be said as nearest.
"""
import json
from pathlib import Path

import pytest

from forno_doctor import facts
from forno_doctor.plan import Plan, Refusal, Target, Wish, plan, read

CASES = json.loads(Path(__file__).with_name("cases.json").read_text(encoding="utf-8"))["cases"]


def asked(case) -> tuple[Target, Wish]:
    i = case["input"]
    want = i["want"]
    names = [i["gpu"]] if isinstance(i["gpu"], str) else i["gpu"] or []
    known = [(n, facts.capability(n)) for n in names]
    extras = want["extras"] if isinstance(want["extras"], dict) else dict.fromkeys(want["extras"], "")
    words = [f"torch{want['torch']}" if want["torch"] != "latest" else "torch", *(f"{k}{v}" for k, v in extras.items())]
    wish = read(words, "cpu" if want.get("cpu") else want.get("tag"))
    return Target(i["python"], i["os"], tuple(c for _, c in known if c) or None, i["driver"], i.get("glibc"), want.get("numpy"), tuple(n for n, c in known if not c)), wish


@pytest.mark.parametrize("case", CASES, ids=lambda c: str(c["id"]))
def test_case(case):
    expect, found = case["expect"], plan(*asked(case))
    if expect["ok"]:
        assert isinstance(found, Plan), found
        wanted = {k: v for k, v in expect.items() if k not in ("ok", "notes", "code")}
        assert {**found.packages, "tag": found.tag} == wanted, case["why"]
        assert set(expect.get("notes", ())) <= set(found.notes), found.notes
        if "code" in expect: assert {c: " ".join(kind) for c, kind in found.codes().items()} == expect["code"]
    else:
        assert isinstance(found, Refusal), found
        assert found.reason == expect["reason"], case["why"]
        for key in expect.keys() - {"ok", "reason"}: assert found.nearest.get(key) == expect[key], (key, found.nearest)


def test_there_are_enough_of_them():
    assert len(CASES) >= 65 and len({c["id"] for c in CASES}) == len(CASES) and all(c["why"] for c in CASES)
