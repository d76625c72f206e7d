"""What goes with what: the tables agree with the plans, fit 80 columns, and say what they leave out."""
import html
import html.parser
import json
import re

import pytest

from forno_doctor import facts, report, table
from forno_doctor import machine as host_machine
from forno_doctor.cli import main
from forno_doctor.plan import Plan, Target, Wish, plan, target
from forno_doctor.words import Words

from . import browser
from .machines import Machine

EN = Words("en")
LINUX = Target("3.12", "linux_x86_64", "8.9", "550.54.14")
TARGETS = {"linux": LINUX, "pascal": Target("3.11", "linux_x86_64", "6.1", "580.95.05"), "windows": Target("3.12", "windows_x86_64", "8.6", "528.33"), "all": None,
           "two": Target("3.12", "linux_x86_64", ("7.0", "12.0"), "580.95.05"),
           "mac": Target("3.12", "macos_arm64"), "cpu": Target("3.13t", "linux_x86_64"), "nothing": Target("3.4", "linux_x86_64", "12.0", "470.57.02")}


def rows(name, target=None): return [dict(zip(t.columns, r)) for t in table.tables([name], target, EN) for r in t.rows]


def words_of(name, target): return table.text(table.tables([name], target, EN), EN)


def test_torch_has_every_release_and_what_goes_with_it():
    found = {r["torch"]: r for r in rows("torch")}
    assert len(found) == len(facts.releases())
    r = found["2.6.0"]
    assert (r["torchvision"], r["torchaudio"], r["python"], r["cuda_builds"], r["cudnn"], r["released"]) == (
        "0.21.0", "2.6.0", ["3.9-3.13"], ["cu118", "cu124*", "cu126"], ["9.1.0.70", "9.1.0.70", "9.5.1.17"], "2025-01-29")
    assert found["2.7.0"]["python"] == ["3.9-3.13", "3.13t"] and found["1.0.0"]["torchaudio"] == () and found["2.9.0"]["cudnn"][2] is None


@pytest.mark.parametrize("name", [n for n, t in TARGETS.items() if t and t.capability])
def test_a_build_stands_there_if_and_only_if_a_plan_gives_it(name):
    target = TARGETS[name]
    shown = {(r["torch"], b.rstrip("*")) for r in rows("torch", target) for b in r["cuda_builds"] if not b.endswith("?")}
    given = {(str(r.version), b.tag) for r in facts.releases() for b in r.builds if isinstance(plan(target, Wish(f"=={r.version}", tag=b.tag)), Plan)}
    assert shown == given
    assert bool(shown) is (name != "nothing")


def test_a_build_of_unknown_architectures_is_marked():
    newest = rows("torch", Target("3.12", "linux_x86_64", "9.0", "595.58.03"))[0]
    assert newest["torch"] == "2.15.0" and newest["cuda_builds"] == ["cu130?", "cu132*?"]
    assert rows("torch", TARGETS["pascal"])[0]["torch"] == "2.14.1", "CUDA 13 has dropped it: that is known"


@pytest.mark.parametrize("cc", [a["cc"] for a in facts.table("gpu_arch")["architectures"]])
def test_first_and_last_torch_of_a_gpu_agree_with_plans(cc):
    first, last, later = table.torch_range(cc, "linux_x86_64")
    fits = [r for r in facts.releases() if r.row["on_pypi"] and any(
        isinstance(plan(Target(p, "linux_x86_64", cc, facts.floor(b.cuda, "linux_x86_64")), Wish(f"=={r.version}", tag=b.tag)), Plan)
        and facts.covers(b.architectures("linux_x86_64"), cc, False) for p in sorted(r.pythons("linux_x86_64"))[:1] for b in r.builds)]
    assert (last, first) == ((fits[0], fits[-1]) if fits else (None, None))
    if later: assert facts.releases()[0].version > last.version


@pytest.mark.parametrize("gpu, first, last", [("GeForce RTX 5090", "2.7.0", "2.14.1+"), ("GeForce GTX 1080 Ti", "1.0.0", "2.14.1"), ("V100", "1.0.0", "2.14.1"),
                                              ("H100", "2.0.0", "2.14.1+"), ("Tesla K40", "1.0.0", "1.3.0"), ("Tesla K80", "1.0.0", "2.7.1"), ("Jetson AGX Orin", (), ())])
def test_gpus(gpu, first, last):
    r = next(r for r in rows("gpu") if r["capability"] == facts.capability(gpu))
    assert (r["torch_first"], r["torch_last"]) == (first, last) and gpu in r["names"]


def test_cuda_says_both_drivers_and_what_was_added_and_removed():
    found = {r["cuda"]: r for r in rows("cuda")}
    assert found["12.4"] == {"cuda": "12.4", "least_linux": "525.60.13", "least_windows": "528.33", "own_linux": "550.54.14", "own_windows": "551.61", "ptx": "8.4", "added": (), "removed": ()}
    assert found["13.0"]["removed"] == ("5.0", "5.2", "5.3", "6.0", "6.1", "6.2", "7.0", "7.2", "10.1") and found["12.0"]["removed"] == ("3.5", "3.7") and found["11.8"]["added"] == ("8.9", "9.0")
    assert found["8.0"]["ptx"] is None and found["13.0"]["own_windows"] == () and found["13.4"]["own_linux"] == "R615"
    here = rows("cuda", TARGETS["pascal"])
    assert here[0]["cuda"] == "12.9" and here[-1]["cuda"] == "8.0" and "least_windows" not in here[0]


def test_cudnn_of_an_old_gpu():
    assert [r["cudnn"] for r in rows("cudnn", TARGETS["pascal"]) if r["capabilities"]][0] == "9.10.2"
    assert "9.17.0" in [r["cudnn"] for r in rows("cudnn", LINUX)]
    assert table.serves(["7.5", "8.0"], "8.6") and not table.serves(["7.5", "8.6"], "8.0") and table.serves([">=3.5"], "12.0") and not table.serves(["3.x"], "5.0")


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", TARGETS)
def test_text_fits_a_terminal_and_says_what_is_left_out(name, language):
    words, target = Words(language), TARGETS[name]
    for n in table.MAKERS:
        t = table.tables([n], target, words)
        text = table.text(t, words)
        assert max(map(report.columns, text.splitlines())) <= 80
        assert "2026-11-21" in text and all(id in text for id, _ in t[0].sources)
        if target and target.capability: assert "--all" in text and all(c in text for c in target.capabilities) and str(t[0].left_out) in text
        if target is None: assert t[0].left_out == 0 and (words("table.unknown") in text or n == "gpu")


def test_remarks_on_rows_stand_below():
    everything = table.tables(["cudnn"], None, EN)[0].notes
    assert any(n.startswith("9.25.0: ") and "only the Rubin row was seen" in n for n in everything)
    assert not any(n.startswith("9.25.0: ") for n in table.tables(["cudnn"], TARGETS["pascal"], EN)[0].notes)
    assert any(n.startswith("10.1: renamed 11.0") for n in table.tables(["gpu"], None, EN)[0].notes)


def test_numbers_are_not_torn_apart():
    text = table.text(table.tables(["cuda"], None, EN), EN)
    assert "525.60.13 " in text and "450.80.02 " in text and "GeForce GTX 1080 Ti" in table.text(table.tables(["gpu"], None, EN), EN)


class Reader(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "br"): self.open.append(tag)

    def handle_endtag(self, tag): assert self.open.pop() == tag


def test_html_is_one_accessible_page():
    words = Words("zh")
    found = table.tables([], None, words)
    found[0].rows[0][1] = "<script>alert(1)</script>"
    page, reader = table.page(found, words), Reader()
    reader.feed(page)
    assert not reader.open and ("html", {"lang": "zh"}) in reader.seen
    tags = [t for t, _ in reader.seen]
    assert tags.count("table") == tags.count("caption") == tags.count("h2") == 4 and tags.count("h1") == 1 and "script" not in tags and "&lt;script&gt;" in page
    assert all(a.get("scope") in ("col", "row") for t, a in reader.seen if t == "th") and "<title>" in page
    assert not [a for _, a in reader.seen for k in ("src", "href") if not a.get(k, "#").startswith("#")] and "url(" not in page and "@import" not in page


MEASURE = """onload = () => { document.getElementById('measured').textContent = JSON.stringify([...document.querySelectorAll('iframe')].map(f => {
    const d = f.contentDocument, seen = [...d.querySelectorAll('table')].map(t => t.rows.length);
    return {width: f.clientWidth, needs: d.documentElement.scrollWidth, rows: seen, loaded: f.contentWindow.performance.getEntriesByType('resource').length}; })) }"""


def test_html_in_a_browser(tmp_path):
    """No page is wider than its window: wide tables scroll by themselves."""
    found = table.tables([], None, EN)
    frames = "".join(f'<iframe width="{w}" height="900" style="border:0" srcdoc="{html.escape(table.page(found, EN))}"></iframe>' for w in (360, 1200))
    (tmp_path / "frames.html").write_text(f"<!doctype html><meta charset=utf-8><body><pre id=measured></pre>{frames}<script>{MEASURE}</script>", encoding="utf-8")
    try: drawn = browser.opened(tmp_path / "frames.html", False, tmp_path)
    except browser.Missing as missing: pytest.skip(str(missing))
    for f in json.loads(re.search(r'<pre id="measured">(.+?)</pre>', drawn, re.DOTALL)[1]):
        assert f["needs"] <= f["width"] and f["rows"] == [1 + len(t.rows) for t in found] and f["loaded"] == 0


def test_markdown_rows_have_all_cells():
    lines = table.markdown(table.tables([], LINUX, EN), EN).splitlines()
    heads = [k for k, line in enumerate(lines) if line.startswith("| --- |") or line.startswith("|") and set(line) <= set("|- ")]
    assert len(heads) == 4
    for k in heads:
        n = lines[k].count("|")
        for line in lines[k - 1:]:
            if not line.startswith("|"): break
            assert line.replace("\\|", "").count("|") == n
    assert "cu126\\*" not in "".join(lines) or "2.6.0" in "".join(lines)


def test_the_command(capsys):
    assert main(["--lang", "en", "table", "torch", "cuda", "--all", "--format", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == 1 and [t["id"] for t in said["tables"]] == ["torch", "cuda"]
    newest = said["tables"][0]["rows"][0]
    assert newest["torch"] == "2.15.0" and newest["cudnn"][0] is None
    assert main(["--lang", "en", "table", "gpu"]) == 0 and "Tesla T4" in capsys.readouterr().out


def test_a_machine_gets_what_its_driver_runs(tmp_path):
    host = Machine(tmp_path).gpu("Tesla T4", "7.5", driver="470.57.02").host()
    here = target(host_machine.Machine(host))
    found = rows("torch", here)
    assert (found[0]["torch"], found[0]["cuda_builds"]) == ("2.7.1", ["cu118"]) and not [b for r in found for b in r["cuda_builds"] if b.startswith("cu12")]
    assert [r["capability"] for r in rows("gpu", here)] == ["7.5"] and rows("cuda", here)[0]["cuda"] == "11.8"


def test_a_gpu_that_no_table_has(tmp_path):
    host = Machine(tmp_path).gpu("NVIDIA GeForce RTX 9999", "19.0", driver="999.10").host()
    here = target(host_machine.Machine(host))
    assert not rows("gpu", here) and "No row fits this machine." in words_of("gpu", here)
    builds = {(r["torch"], b.rstrip("*")) for r in rows("torch", here) for b in r["cuda_builds"]}
    assert builds and all(any(a.endswith("+PTX") for a in facts.release(v).build(tag).architectures("linux_x86_64")) for v, tag in builds), "only PTX may run there"


def test_another_machine_is_described(capsys):
    assert main(["--lang", "en", "table", "torch", "--gpu", "GeForce GTX 1080 Ti", "--driver", "580.95.05", "--python", "3.12", "--os", "linux", "--format", "json"]) == 0
    t = json.loads(capsys.readouterr().out)["tables"][0]
    assert t["rows"][0]["torch"] == "2.14.1" and t["rows"][0]["cuda_builds"] == ["cu126"] and t["limits"][0] == "Python 3.12"
    assert main(["table", "gpu", "--gpu", "No Such GPU 9"]) == 0 and "No Such GPU 9" in capsys.readouterr().out
    assert main(["table", "--os", "beos"]) == 2 and "beos" in capsys.readouterr().err
