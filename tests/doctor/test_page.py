"""The page: what is in it, that nothing gets out of it, and in a real browser what it looks like."""
import re
from html.parser import HTMLParser
from pathlib import Path


import pytest


from forno_doctor import checks, diagnose, facts, page, report

from forno_doctor.words import Words

from . import browser
from .machines import Machine

VOID = {"meta", "br", "hr", "img", "input", "link"}


def healthy(folder): return Machine(folder).gpu("NVIDIA GeForce RTX 4090", "8.9", driver="550.54.14").torch("2.6.0+cu124", architectures=["5.0", "8.0", "8.6", "9.0"], extras={"torchvision": "0.21.0+cu124"})
def broken(folder): return Machine(folder).gpu("NVIDIA GeForce RTX 5090", "12.0", driver="570.124.06").torch("2.6.0+cu124", architectures=["5.0", "9.0"], extras={"torchvision": "0.21.0+cu118"})
def old(folder): return Machine(folder).gpu("Tesla T4", "7.5", driver="470.57.02").torch("2.6.0+cu124", architectures=["7.5"])
def bare(folder): return Machine(folder)


def evil(folder):
    """A machine whose names are written by somebody who wants to run something."""
    hostile = '"><script>planted=1</script><img src=x onerror=planted=1>&amp;'
    m = Machine(folder).gpu(f"RTX {hostile}", "8.9").torch("2.6.0+cu124", architectures=["5.0"])
    m.package(f"torch-{'x'}", f"1.0{hostile}").file(f"{m.site}/nvidia_evil-1.dist-info/METADATA", f"Name: nvidia-evil{hostile}\nVersion: 9{hostile}\n\n")
    return m.environment(CUDA_HOME='/srv/<script>planted=1</script>')


MACHINES = {"healthy": healthy, "broken": broken, "old": old, "bare": bare, "evil": evil}
OTHERS = {"windows": lambda f: Machine(f, system="windows").torch("2.6.0+cpu"), "mac": lambda f: Machine(f, system="macos", machine="arm64").torch("2.6.0"),
          "unknown": lambda f: Machine(f).gpu("NVIDIA GeForce RTX 9990", "19.0", driver="999.10", cuda="14.9").torch("2.99.0+cu149")}


def told(machine, language="en"): return report.told(diagnose(machine.host()), Words(language))


class Parsed(HTMLParser):
    """A page's tags, and whether each that is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.wrong, self.text, self.heads = [], [], [], [], []
        self.feed(text)
        self.close()
        if self.open: self.wrong.append(f"left open: {self.open}")

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if len(dict(attributes)) != len(attributes): self.wrong.append(f"{tag} has an attribute twice")
        if tag not in VOID: self.open.append(tag)

    def handle_startendtag(self, tag, attributes): self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag: self.wrong.append(f"</{tag}>")

    def handle_data(self, data):
        if "style" not in self.open: self.text.append(data)

    def attributes(self, name): return [a[name] for _, a in self.tags if name in a]


@pytest.fixture(params=[(m, language) for m in (*MACHINES, *OTHERS) for language in ("en", "zh")], ids=lambda p: "-".join(p))
def made(request, tmp_path):
    name, language = request.param
    t = told((MACHINES | OTHERS)[name](tmp_path), language)
    text = page.html(t, Words(language))
    return t, text, Parsed(text)


def test_it_is_well_formed(made):
    t, text, p = made
    assert text.startswith("<!doctype html>") and not p.wrong, p.wrong
    tags = [tag for tag, _ in p.tags]
    assert tags.count("h1") == tags.count("main") == tags.count("header") == tags.count("footer") == tags.count("title") == 1 and p.tags[0] == ("html", {"lang": {"zh": "zh-CN"}.get(t["language"], "en")})
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and all(b <= a + 1 for a, b in zip(levels, levels[1:])), levels
    ids = p.attributes("id")
    assert len(ids) == len(set(ids)) and {r for v in p.attributes("aria-labelledby") for r in v.split()} | {h[1:] for h in p.attributes("href")} <= set(ids)
    assert all(a.get("aria-hidden") == "true" for tag, a in p.tags if tag == "svg" and "aria-label" not in a)


def test_nothing_comes_from_outside(made):
    _, text, p = made
    assert not {"script", "img", "link", "iframe", "object", "base"} & {tag for tag, _ in p.tags}
    assert not [k for _, a in p.tags for k in a if k.startswith("on") or k in ("src", "srcset", "action")] and all(h.startswith("#") for h in p.attributes("href"))
    assert all(u.startswith(facts.INDEX) for u in re.findall(r"\w+://[^\s<&\"']+", text)) and "url(" not in text and "@import" not in text


def test_every_finding_is_there_with_what_to_type(made):
    t, _, p = made
    said = "".join(p.text)
    for f in t["findings"]:
        for text in (f["title"], f["cause"], f["id"], *f["commands"], f["verify"], *(x for what, where in f["evidence"] for x in (report.seen(what, Words(t["language"])), where))): assert text in said, text
    assert p.attributes("class").count("finding bad") == t["counts"]["error"] and p.attributes("class").count("finding warn") == t["counts"]["warning"]
    assert all(name in said for name in (t["machine"]["python"]["version"], t["cuda"]["torch"] or "", t["machine"]["driver"]["version"] or ""))


def test_hostile_names_are_only_text(tmp_path):
    t = told(evil(tmp_path))
    text = page.html(t, Words())
    assert '<script>planted=1</script>' in str(t) and "<script" not in text and "&lt;script&gt;planted=1" in text and "<img" not in text


@pytest.mark.parametrize("make, bad", [(healthy, set()), (broken, {"framework"}), (old, {"driver"})])
def test_the_broken_floor_is_the_broken_one(tmp_path, make, bad):
    p = Parsed(page.html(told(make(tmp_path)), Words()))
    floors = [a["class"].split() for tag, a in p.tags if tag == "li" and a.get("class", "").startswith("floor ")]
    assert [f[1] for f in floors] == list(page.FLOORS) and {f[1] for f in floors if f[2] == "bad"} == bad
    assert all(f[2] in ("ok", "warn") for f in floors if f[1] not in bad)


def test_what_is_not_here_is_drawn_so(tmp_path):
    p = Parsed(page.html(told(bare(tmp_path)), Words()))
    assert {a["class"].split()[1] for tag, a in p.tags if tag == "li" and a.get("class", "").endswith(" none")} == {"framework", "libraries", "cuda", "driver", "gpu"}


def test_every_check_has_its_floor():
    """A new area of checks says where in the house it stands."""
    areas = {c.__module__.rsplit(".", 1)[-1] for c in checks.ALL}
    assert areas <= page.BY_AREA.keys() and set(page.BY_AREA.values()) | set(page.BY_ID.values()) <= set(page.FLOORS)
    assert all(Words().has(f"{i}.title") for i in page.BY_ID)


def test_tags_escape_what_they_are_given():
    assert page.tag("a", "<b>", page.tag("i", "&"), title='"x"', cls="c", hidden=None) == '<a title="&quot;x&quot;" class="c">&lt;b&gt;<i>&amp;</i></a>'


def light(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    values = [int(colour[k:k + 2], 16) / 255 for k in (1, 3, 5)] if len(colour) == 7 else [int(c * 2, 16) / 255 for c in colour[1:]]
    return sum(w * (v / 12.92 if v <= .04045 else ((v + .055) / 1.055) ** 2.4) for w, v in zip((.2126, .7152, .0722), values))


def test_both_palettes_can_be_read():
    """Text against what lies behind it, at least 4.5 to 1."""
    palettes = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", block)) for block in re.findall(r":root \{(.*?)\}", Path(page.__file__).with_name("page.css").read_text(encoding="utf-8"), re.DOTALL)]
    assert len(palettes) == 3 and palettes[0].keys() == palettes[1].keys()
    for palette in palettes:
        p = palettes[0] | palette
        for over, under in [(a, b) for a in ("ink", "soft", "ok", "warn", "bad", "note", "accent") for b in ("paper", "wall")] + [("ink", "code"), ("soft", "code"), ("on-earth", "earth")] \
                + [(a, f"{b}-back") for b in ("warn", "bad", "note") for a in ("ink", b)]:
            a, b = sorted((light(p[over]), light(p[under])))
            assert (b + .05) / (a + .05) >= 4.5, (over, under, (b + .05) / (a + .05))


# ---------------------------------------------------------------- in a browser
WIDTHS = [360, 620, 1200]


@pytest.fixture(scope="module", params=["light", "dark"])
def seen(request, tmp_path_factory):
    """Every machine's page in every width, in one run of a browser."""
    folder = tmp_path_factory.mktemp("pages")
    wanted = [*((name, "en") for name in MACHINES), ("broken", "zh")]
    made = {(name, language): (t := told(MACHINES[name](folder / f"{name}-{language}"), language), page.html(t, Words(language))) for name, language in wanted}
    try: found = browser.looks(folder, [text for _, text in made.values()], WIDTHS, request.param == "dark")
    except browser.Missing as missing: pytest.skip(str(missing))
    assert all(f["dark"] == (request.param == "dark") for f in found)
    return [(name, t, found[k * len(WIDTHS) + w]) for k, ((name, _), (t, _)) in enumerate(made.items()) for w in range(len(WIDTHS))]


def test_no_width_scrolls_sideways(seen):
    wide = [(name, f["width"], f["needs"]) for name, _, f in seen if f["needs"] > f["width"]]
    assert not wide and {f["width"] for *_, f in seen} >= {360, 620}, wide


def test_all_text_can_be_read(seen): assert not [(name, f["width"], f["dim"][:3]) for name, _, f in seen if f["dim"]]


def test_nothing_runs_and_nothing_is_fetched(seen): assert all(f["planted"] and not f["scripts"] and not f["loaded"] for *_, f in seen)


def test_the_house_stands(seen):
    """Floors lie on one another from the roof to the ground; what is broken is red and has a crack, what holds is lit."""
    for name, t, f in seen:
        floors = f["floors"]
        assert len(floors) == 6 and abs(floors[0]["box"]["top"] - f["roof"]["bottom"]) < 6, name
        assert all(abs(a["box"]["bottom"] - b["box"]["top"]) < 2 and a["wall"]["bottom"] - a["wall"]["top"] >= 60 for a, b in zip(floors, floors[1:])), name
        for x in floors:
            red, green, blue = map(int, re.findall(r"\d+", x["colour"])[:3])
            bad = " bad" in x["name"]
            assert x["crack"] == bad and (not bad or red > 1.05 * max(green, blue) or "gpu" in x["name"]), x
        lit = {x["lit"] for x in floors if " ok" in x["name"]}
        assert len(lit) == 1 and not lit & {x["lit"] for x in floors if " bad" in x["name"] or " none" in x["name"]}


def test_the_fix_stands_beside(seen):
    for name, t, f in seen:
        assert len(f["findings"]) == len(t["findings"])
        for x in f["findings"]:
            floor = next(y for y in f["floors"] if y["name"] == x["floor"])
            assert floor["box"]["top"] <= x["box"]["top"] and x["box"]["bottom"] <= floor["box"]["bottom"], name
            if f["width"] > 1000: assert x["box"]["left"] >= floor["wall"]["right"], name
            assert set(x["select"]) <= {"all"}
        assert sorted(c for x in f["findings"] for c in x["commands"]) == sorted(c for y in t["findings"] for c in (*y["commands"], y["verify"]) if c)
