"""The doctor knows how old its tables are, what may have come since, and that the tables keep their own rules."""
import datetime
import json
import re

import pytest

from forno_doctor import age, facts
from forno_doctor.cli import main
from forno_doctor.versions import at_least, numbers, parse
from forno_doctor.words import Words

WRITTEN = datetime.date.fromisoformat(facts.table("torch")["as_of"])


def after(days): return age.ages(WRITTEN + datetime.timedelta(days=days))


def test_young_tables_are_fine():
    found = after(10)
    assert {a.name for a in found} == {f.stem for f in facts.DATA.glob("*.json")}, "every table is told"
    assert not any(a.old for a in found) and all(a.days == 10 and a.sources and a.counts for a in found)
    assert not [a for a in found if a.old] and [a.old for a in after(90)] == [False] * 6 and all(a.old for a in after(91))


def test_counts_are_those_of_the_tables():
    counts = {a.name: dict(a.counts) for a in after(0)}
    assert counts["torch"]["releases"] == len(facts.releases()) == facts.table("torch")["count"]
    assert counts["gpu_arch"]["names"] == facts.table("gpu_arch")["counts"]["official_names"] + facts.table("gpu_arch")["counts"]["other_names"]
    assert counts["symptoms"]["messages"] == facts.table("symptoms")["count"]


def test_what_has_probably_appeared_since():
    torch = {d: next(a for a in after(d) if a.name == "torch") for d in (0, 120, 200)}
    assert torch[0].newest == ("2.15.0", "2026-10-28") and 20 <= torch[0].pace <= 80 and torch[0].missed == 0
    assert torch[120].missed == (120 + 24) // torch[0].pace > 1 and torch[200].missed > torch[120].missed
    text = age.text(after(120), Words("en"), check=True)
    assert f"{torch[120].missed} releases have probably appeared since." in text and "Older than 90 days" in text and "not verified" in text


@pytest.mark.parametrize("released, newest, pace", [({"1": "2026-01-01", "2": "2026-01-31", "3": "2026-03-02"}, ("3", "2026-03-02"), 30), ({"1": "2026-01-01", "x": "soon"}, ("1", "2026-01-01"), 1)])
def test_pace(released, newest, pace): assert age.pace(released) == (newest, pace)


def test_a_clock_that_is_behind_and_a_date_that_is_none(monkeypatch):
    ahead = after(-5)[0]
    assert not ahead.old and ahead.missed == 0 and "5 days ahead" in age.text([ahead], Words("en"))
    monkeypatch.setitem(facts.table("install"), "as_of", "lately")
    undated = age.age("install", WRITTEN)
    assert undated.old and undated.days is None and "unknown date" in age.text([undated], Words("en"), check=True)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("check", [False, True])
def test_it_is_told_in_both_languages(language, check):
    text = age.text(after(400), Words(language), check)
    assert all(name in text for name in age.COUNTED) and (check or "pypi:" in text) and "{" not in text


def test_the_command(capsys):
    assert main(["data"]) == 0 and "install" in capsys.readouterr().out
    assert main(["data", "--check", "--today", str(WRITTEN)]) == 0
    assert main(["--lang", "en", "data", "--check", "--today", str(WRITTEN + datetime.timedelta(days=100))]) == 1 and "verified" in capsys.readouterr().out
    assert main(["data", "--json", "--check", "--today", "2030-01-01"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == 1 and said["old"] == [t["name"] for t in said["tables"]]
    with pytest.raises(SystemExit): main(["data", "--today", "soon"])


# ---------------------------------------------------------------- rules that the tables keep
@pytest.mark.parametrize("r", facts.releases(), ids=str)
def test_releases(r):
    assert r.version and re.fullmatch(r"\d{4}-\d\d-\d\d", r.row["released"]) and r.row["torchvision"] and r.builds
    assert sum(b.default for b in r.builds) <= 1
    for b in r.builds:
        assert re.fullmatch(r"cu\d{2,3}", b.tag) and b.tag == "cu" + b.cuda.replace(".", "") and facts.toolkit(b.cuda), "every build has a toolkit with driver floors"
        for platform in b.platforms or ():
            for cc in b.architectures(platform) or ():
                a = facts.architecture(cc.split("+")[0])
                assert a and at_least(b.cuda, a["cuda_min"].lstrip("<")) and (a["cuda_max"] is None or at_least(a["cuda_max"], b.cuda)), (b.tag, cc)
    if r.row["pypi_default_cuda"]: assert r.default() is None or r.default().cuda == r.row["pypi_default_cuda"]


def test_releases_go_on():
    days = [r.row["released"] for r in facts.releases() if str(r.version) != "1.8.2"]
    assert days == sorted(days, reverse=True), "later versions came later, the long-term 1.8.2 apart"
    versions = [str(r.version) for r in facts.releases()]
    assert len(set(versions)) == len(versions) and all(parse(v) for v in versions)


def test_drivers():
    rows = facts.table("cuda_driver")["toolkits"]
    assert [numbers(t["cuda"]) for t in rows] == sorted(numbers(t["cuda"]) for t in rows)
    for t in rows:
        if t["toolkit_driver_linux"] and t["cuda"] not in ("11.0",): assert at_least(t["toolkit_driver_linux"], t["mvc_min_linux"]), "a toolkit's driver runs its programs"
    branches = facts.table("cuda_driver")["driver_branch_to_cuda"]
    assert [numbers(b["cuda_reported_max"].split()[0]) for b in branches] == sorted(numbers(b["cuda_reported_max"].split()[0]) for b in branches)


def test_names_of_gpus_are_of_one_capability():
    seen = {}
    for a in facts.table("gpu_arch")["architectures"]:
        assert a["sm"] == "sm_" + a["cc"].replace(".", "")
        for names in (*a.get("official", {}).values(), *a.get("other_names", {}).values()):
            for name in names:
                assert seen.setdefault(name.lower(), a["cc"]) == a["cc"]
                assert facts.capability(name) == a["cc"], name


def test_cudnn_of_wheels_exists():
    known = {v for group in facts.table("cudnn_cuda")["wheel_versions"].values() for v in group}
    for r in facts.releases():
        for b in r.builds:
            if b.cudnn and at_least(b.cudnn, "9.1") and b.row["cudnn_src"] == "M": assert b.cudnn in known, (r, b.tag)
