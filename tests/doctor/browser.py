"""A real browser to look at pages with: Chromium, from $CHROMIUM, from PATH, or as Qt's WebEngine (PyQt6-WebEngine).

Comes in: pages and widths. Goes out: for each what it looks like there, measured inside the browser: the pages stand in frames of those widths on one page that measures them.
"""
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from html import escape
from pathlib import Path

PROGRAMS = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge"
FLAGS = ["--no-sandbox", "--disable-gpu"]
DARK = "--blink-settings=preferredColorScheme=0"
SECONDS = 40

MEASURE = """
const light = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255).map(x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4); return .2126 * v[0] + .7152 * v[1] + .0722 * v[2] };
const box = e => { const r = e.getBoundingClientRect(); return {left: r.left, right: r.right, top: r.top, bottom: r.bottom} };
function measure(frame) {
  const d = frame.contentDocument, look = e => frame.contentWindow.getComputedStyle(e), dim = [];
  for (const e of d.body.querySelectorAll('*')) {
    if (![...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()) || !e.getClientRects().length || e.closest('.skip')) continue;
    let b = e; while (b && look(b).backgroundColor.endsWith(', 0)')) b = b.parentElement;
    const over = light(look(e).color), under = light(look(b || d.body).backgroundColor), ratio = (Math.max(over, under) + .05) / (Math.min(over, under) + .05);
    if (ratio < 4.5) dim.push([e.tagName + '.' + e.className, e.textContent.slice(0, 30), ratio]);
  }
  return {width: frame.clientWidth, needs: d.documentElement.scrollWidth, dim, dark: frame.contentWindow.matchMedia('(prefers-color-scheme: dark)').matches,
    loaded: frame.contentWindow.performance.getEntriesByType('resource').map(r => r.name), scripts: d.scripts.length, planted: frame.contentWindow.planted === undefined && window.planted === undefined,
    floors: [...d.querySelectorAll('.floor')].map(e => ({name: e.className, box: box(e), wall: box(e.querySelector('.wall')), beside: box(e.querySelector('.beside')),
      colour: look(e.querySelector('.wall')).backgroundColor, crack: !!e.querySelector('.crack'), lit: look(e.querySelector('.glass')).fill})),
    findings: [...d.querySelectorAll('.finding')].map(e => ({box: box(e), floor: e.closest('.floor').className, commands: [...e.querySelectorAll('pre')].map(p => p.innerText),
      select: [...e.querySelectorAll('pre code')].map(p => look(p).userSelect)})),
    roof: box(d.querySelector('.roof')), text: d.body.innerText};
}
onload = () => { try { document.getElementById('measured').textContent = JSON.stringify([...document.querySelectorAll('iframe')].map(measure)) }
                 catch (e) { document.getElementById('measured').textContent = JSON.stringify(String(e)) } };
"""

QT = """
import sys
from PyQt6.QtCore import QTimer, QUrl
from PyQt6.QtWebEngineWidgets import QWebEngineView
from PyQt6.QtWidgets import QApplication
app = QApplication(["browser"])
view = QWebEngineView()
view.resize(1300, 900)
def done(ok): view.page().toHtml(lambda text: (sys.stdout.buffer.write(text.encode()), app.quit()))
view.loadFinished.connect(done)
view.load(QUrl.fromLocalFile(sys.argv[1]))
view.show()
QTimer.singleShot(30000, lambda: app.exit(3))
sys.exit(app.exec())
"""


class Missing(Exception):
    """No browser that starts here, and why."""


def looks(folder: Path, pages: list[str], widths: list[int], dark: bool = False) -> list[dict]:
    """Page by page, each in all widths."""
    frames = "".join(f'<iframe width="{w}" height="900" style="border:0" srcdoc="{escape(p)}"></iframe>' for p in pages for w in widths)
    file = folder / f"frames-{dark}.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><body><pre id=measured></pre>{frames}<script>{MEASURE}</script>", encoding="utf-8")
    m = re.search(r'<pre id="measured">(.+?)</pre>', opened(file, dark, folder), re.DOTALL)
    if m is None: raise AssertionError("the browser ran, and measured nothing")
    found = json.loads(m[1].replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", " ").replace("&amp;", "&"))
    assert isinstance(found, list), found
    return found


def opened(file: Path, dark: bool, folder: Path) -> str:
    """A page's text after it was drawn."""
    flags = [*FLAGS, *([DARK] if dark else [])]
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program: return ran([program, "--headless", *flags, f"--user-data-dir={folder}/profile-{dark}", "--dump-dom", file.as_uri()], {}, program)
    if importlib.util.find_spec("PyQt6") is None or importlib.util.find_spec("PyQt6.QtWebEngineWidgets") is None:
        raise Missing(f"no browser: set CHROMIUM, have one of {', '.join(PROGRAMS)} on PATH, or pip install PyQt6-WebEngine")
    return ran([sys.executable, "-c", QT, str(file)], {"QT_QPA_PLATFORM": "offscreen", "QTWEBENGINE_CHROMIUM_FLAGS": " ".join(flags), "XDG_RUNTIME_DIR": str(folder)}, "PyQt6-WebEngine")


def ran(command, variables, name) -> str:
    try: done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error: raise Missing(f"{name} doesn't work here: {error}") from error
    if done.returncode or b"</body>" not in done.stdout:
        raise Missing(f"{name} doesn't start here: {done.stderr.decode(errors='replace').strip().splitlines()[-1:] or done.returncode}")
    return done.stdout.decode(errors="replace")
