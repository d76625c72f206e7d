"""Takes out of a told report what says who and where somebody is: names of users, hosts and folders, addresses, UUIDs, serial numbers, mail addresses, and what is written into
URLs. What fits together with what stays: versions, packages, the ends of paths.

Comes in: what report.told made, and the Host it is about. Goes out: the same without that. One secret has one replacement everywhere: [user-1], [path-2] …
"""
from __future__ import annotations

import re

from . import facts
from .host import Host

# Folders that are everywhere alike; others may be named after people, companies and projects.
KNOWN = re.compile(r"/(?:usr|lib|lib32|lib64|bin|sbin|etc|proc|sys|dev|run|boot|opt/conda|opt/rocm[\w.-]*|opt/nvidia|opt/venv|opt/amdgpu)(?=/|$)"
                   r"|[A-Za-z]:[\\/](?:Windows|Program Files(?: \(x86\))?|ProgramData)(?=[\\/]|$)")
# From here on a path says what it is and not where: the environment's own folders, a library, a program.
TAIL = re.compile(r"[\\/](?:lib(?:64)?[\\/]python\d|Lib(?=[\\/])|lib(?:64)?(?=[\\/]|$)|bin(?=[\\/]|$)|Scripts[\\/]|site-packages|dist-packages|conda-meta|envs$|targets[\\/]|"
                  r"(?:lib[\w+-]*\.so[\w.]*|[\w.-]+\.dll|python[\d.]*(?:\.exe)?|pyvenv\.cfg|cuda-[\d.]+)$)")
PATH = re.compile(r"(?<![\w/.}\]])~?/(?!/)[^\s:;,'\"<>|()\[\]]+|(?<![\w])[A-Za-z]:\\[^\s:;,'\"<>|()\[\]]+|\\\\[\w.-]+\\[^\s:;,'\"<>|()\[\]]+")
HOME = re.compile(r"(?:/home|/Users|[A-Za-z]:[\\/]Users)[\\/]([^\\/\s:;,'\"]+)")
PATTERNS = (("uuid", re.compile(r"(?i)\b(?:GPU-|MIG-)?[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b[0-9a-f]{32}\b")),
            ("mail", re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")),
            ("serial", re.compile(r"(?i)(?<=serial number: )[\w-]+|(?<=serial: )[\w-]+|(?<=serial=)[\w-]+|(?<=serial )[A-Z0-9-]*\d[A-Z0-9-]*")),
            ("address", re.compile(r"(?i)(?<![\w:])(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{1,4}(?![\w:])|(?<![\w:])(?:[0-9a-f]{1,4}:){1,6}:(?:[0-9a-f]{1,4}:?){1,6}(?![\w:])")))
NUMBERS = re.compile(r"(?<![\w.=-])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]|\.\d)")
URL = re.compile(r"(?<=://)(?:[^/\s@'\"]+@)?([^/\s'\"]+)([^\s'\"]*)")
PUBLIC = re.compile(r"(?:[\w-]+\.)*(?:pytorch\.org|nvidia\.com|github\.com|python\.org|microsoft\.com)")
SERIAL = "serial", "serial_number"
PLAIN = set("root user users ubuntu debian admin administrator runner localhost home app docker default public python torch cuda conda".split())
WHOLE = re.compile(r"(?:/|[A-Za-z]:[\\/])[^:\n]*")                         # a text that is nothing but a path


def redacted(told: dict, host: Host) -> dict:
    out = Redactor(told, host)
    return {k: out(v) if k in ("machine", "findings") else v for k, v in told.items()}


class Redactor:
    def __init__(self, told: dict, host: Host):
        self.names: dict[tuple[str, str], str] = {}
        texts = list(strings(told["machine"])) + list(strings(told["findings"]))
        self.roots = sorted({self.head(t) for t in texts if WHOLE.fullmatch(t)} - {""}, key=len, reverse=True)
        self.words = self.secret_words(texts, host)
        self.versions = {p["version"].partition("+")[0] for p in told["machine"]["packages"]} | {c["version"] for c in told["machine"]["libraries"]}
        self.tables = [str(facts.table(name)) for name in ("torch", "cudnn_cuda", "cuda_driver")]

    def __call__(self, value, key: str = ""):
        if isinstance(value, dict): return {k: self(v, k) for k, v in value.items()}
        if isinstance(value, (list, tuple)): return [self(v, key) for v in value]
        if not isinstance(value, str) or key in ("id", "severity", "area"): return value
        return self.name("serial", value) if key in SERIAL and value else self.text(value)

    def text(self, value: str) -> str:
        value = URL.sub(self.url, value)
        for root in self.roots:                # those with blanks in them, too
            value = re.sub(rf"(?<![\w/.]){re.escape(root)}(?![\w.-])", lambda m: self.name("path", m[0]), value)
        value = PATH.sub(self.path, value)
        for kind, pattern in PATTERNS: value = pattern.sub(lambda m, kind=kind: self.name(kind, m[0].lower()), value)
        value = NUMBERS.sub(self.number, value)
        for kind, word in self.words: value = re.sub(rf"(?i)(?<![\w-]){re.escape(word)}(?![\w-])", lambda m, kind=kind, word=word: self.name(kind, word), value)
        return value

    def name(self, kind: str, secret: str) -> str:
        count = sum(k == kind for k, _ in self.names)
        return self.names.setdefault((kind, secret), f"[{kind}-{count + 1}]")

    def head(self, path: str) -> str:
        """The part of a path that is somebody's own; "" if none is."""
        if KNOWN.match(path): return ""
        m = TAIL.search(path)
        return (path[:m.start()] if m else path).rstrip("/\\")

    def path(self, m: re.Match) -> str:
        whole = m[0].rstrip(".")               # the end of a sentence
        own = self.head(whole)
        return m[0] if not own else self.name("path", own) + m[0][len(own):]

    def url(self, m: re.Match) -> str: return m[1] + m[2] if PUBLIC.fullmatch(m[1]) else self.name("host", m[1]) + ("/…" if m[2] else "")

    def number(self, m: re.Match) -> str:
        """Four numbers are an address, if they aren't a version that is installed or in the tables."""
        return m[0] if m[0] in self.versions or any(m[0] in t for t in self.tables) else self.name("address", m[0])

    @staticmethod
    def secret_words(texts: list[str], host: Host) -> list[tuple[str, str]]:
        e, users, hosts = host.environment, set(), set()
        for variable in ("USER", "LOGNAME", "USERNAME", "SUDO_USER"): users.add(e.get(variable, ""))
        for variable in ("HOME", "USERPROFILE"): users.add(re.split(r"[\\/]", e.get(variable, "").rstrip("\\/"))[-1])
        for t in texts: users |= set(HOME.findall(t))
        asked = host.ask("hostname") if host.system == "macos" else None           # elsewhere variables or files name it
        for name in (asked.out if asked else "", e.get("HOSTNAME", ""), e.get("COMPUTERNAME", ""), host.text("/etc/hostname") or "", host.text("/proc/sys/kernel/hostname") or ""):
            hosts |= {name.strip(), name.strip().split(".")[0]}
        found = [("user", u) for u in users] + [("host", h) for h in hosts - users]
        return sorted(((k, w) for k, w in found if len(w) > 2 and w.lower() not in PLAIN), key=lambda x: (-len(x[1]), x[1]))


def strings(value):
    """Every text inside."""
    if isinstance(value, str): yield value
    elif isinstance(value, dict):
        for v in value.values(): yield from strings(v)
    elif isinstance(value, (list, tuple)):
        for v in value: yield from strings(v)
