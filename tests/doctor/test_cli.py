"""The command line: options, exit codes, files, languages, consoles; and what --redact takes out."""
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from forno_doctor import Host, cli, files, page, report
from forno_doctor.cli import common, look
from forno_doctor.redact import Redactor
from forno_doctor.words import LANGUAGES, Words, catalogue

from .machines import Machine

ROOT = Path(__file__).parents[2]


def old(folder): return Machine(folder).gpu("Tesla T4", "7.5", driver="470.57.02").torch("2.6.0+cu124", architectures=["7.5"])
def shadowed(folder): return Machine(folder).gpu("NVIDIA GeForce RTX 4090", "8.9", driver="550.54.14").torch("2.6.0+cu124", architectures=["8.0"], extras={"torchvision": "0.21.0+cu118"})
def fine(folder): return Machine(folder).gpu("NVIDIA GeForce RTX 4090", "8.9", driver="550.54.14").torch("2.6.0+cu124", architectures=["8.0"])


@pytest.fixture
def doctor(monkeypatch, tmp_path, capsys):
    """The command line on a machine that is made of files: doctor(make, *arguments) -> (code, what it printed)."""
    made = {}

    def run(make, *arguments):
        host = made[make] = made.get(make) or make(tmp_path / make.__name__).host()
        monkeypatch.setattr(look, "Host", lambda **more: host)
        code = cli.main(list(arguments))
        return code, capsys.readouterr().out
    return run


# ---------------------------------------------------------------- codes and choices
@pytest.mark.parametrize("make, code", [(fine, 0), (shadowed, 1), (old, 2)])
def test_exit_codes(doctor, make, code):
    assert doctor(make)[0] == code and doctor(make, "--json")[0] == code and json.loads(doctor(make, "--json")[1])["code"] == code


def test_ci_says_what_counts(doctor):
    assert doctor(old, "--ignore", "driver-too-old")[0] == 0 and doctor(shadowed, "--only", "driver-too-old, cpu-build")[0] == 0 and doctor(shadowed, "--only", "other-build")[0] == 1


@pytest.mark.parametrize("option", ["--only", "--ignore"])
def test_a_slip_in_an_id_is_no_good_news(doctor, capsys, option):
    with pytest.raises(SystemExit) as e: doctor(old, option, "driver-to-old")
    assert e.value.code == 2 and "no finding has the id driver-to-old" in capsys.readouterr().err


def test_wrong_usage(capsys):
    with pytest.raises(SystemExit) as e: cli.main(["--colour"])
    assert e.value.code == 2 and "--colour" in capsys.readouterr().err


def test_an_interpreter_by_its_folder_or_name(tmp_path, monkeypatch):
    (tmp_path / "env/bin").mkdir(parents=True)
    (tmp_path / "env/bin/python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    assert common.interpreter("env") == common.interpreter("env/bin/python") == common.interpreter(str(tmp_path / "env")) == str(tmp_path / "env/bin/python")
    assert common.interpreter("no/python") == str(tmp_path / "no/python") and common.interpreter("no-such-python") == "no-such-python"
    monkeypatch.setenv("PATH", str(tmp_path / "env/bin"))
    assert common.interpreter("python") == str(tmp_path / "env/bin/python")


def test_what_is_documented_is_there():
    text = (ROOT / "docs/doctor.md").read_text(encoding="utf-8")
    p = cli.parser(Words())
    assert not [o for a in p._actions for o in a.option_strings if o.startswith("--") and f"`{o}" not in text and f"doctor {o}" not in text and o not in ("--help", "--launcher")]
    assert not [c for a in p._actions if a.dest == "command" for c in a.choices if c != "node" and f"`forno doctor {c}" not in text]
    assert all(look.ids(i) for i in re.findall(r"--only ([\w,-]+)", text) if "ID" not in i)


@pytest.mark.parametrize("arguments", [["--redact", "table", "torch"], ["--redact", "--hosts", "a,b"], ["--output", "x", "verify"], ["--only", "cpu-build", "data"]])
def test_no_option_is_passed_over(arguments, capsys):
    with pytest.raises(SystemExit) as e: cli.main(["--lang", "en", *arguments])
    assert e.value.code == 2 and f"{arguments[0]} is of the report and does nothing with" in capsys.readouterr().err


# ---------------------------------------------------------------- files
def test_files_are_written_whole(doctor, tmp_path):
    out, drawn = tmp_path / "out.json", tmp_path / "house.html"
    out.write_text("before")
    code, said = doctor(old, "--json", "--output", str(out), "--html", str(drawn))
    assert code == 2 and said == "" and json.loads(out.read_text(encoding="utf-8"))["code"] == 2 and drawn.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(f.name for f in tmp_path.iterdir() if f.is_file()) == ["house.html", "out.json"]
    assert out.stat().st_mode & 0o777 == drawn.stat().st_mode & 0o777 == 0o666 & ~os.umask(os.umask(0o22) or 0o22) or os.name == "nt"


def test_what_fails_leaves_the_old_file(doctor, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.txt"
    out.write_text("before")

    def full(*a): raise OSError(28, "No space left on device", str(out))
    monkeypatch.setattr(files.os, "replace", full)
    assert doctor(fine, "--output", str(out))[0] == 2
    assert out.read_text() == "before" and [f.name for f in tmp_path.iterdir() if f.is_file()] == ["out.txt"]


def test_a_folder_that_is_not_there(doctor, tmp_path, capsys):
    host = fine(tmp_path / "m").host()
    look.Host, real = (lambda **more: host), look.Host
    try: assert cli.main(["--output", str(tmp_path / "no" / "out.txt"), "--lang", "en"]) == 2
    finally: look.Host = real
    assert "can't be written: No such file or directory" in capsys.readouterr().err


# ---------------------------------------------------------------- terminals
class Stream(io.StringIO):
    def __init__(self, terminal): super().__init__(); self.terminal = terminal
    def isatty(self): return self.terminal


@pytest.mark.parametrize("wish, terminal, variables, colours", [
    ("auto", True, {}, True), ("auto", False, {}, False), ("auto", True, {"NO_COLOR": "1"}, False), ("auto", True, {"NO_COLOR": ""}, True), ("auto", False, {"FORCE_COLOR": "1"}, True),
    ("auto", True, {"TERM": "dumb"}, False), ("always", False, {"NO_COLOR": "1"}, True), ("never", True, {"FORCE_COLOR": "1"}, False), ("auto", False, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False)])
def test_colours(wish, terminal, variables, colours): assert look.coloured(wish, Stream(terminal), variables) == colours


@pytest.mark.parametrize("encoding, arguments", [("cp936", ["--lang", "zh"]), ("cp1252", ["--lang", "en"]), ("ascii", ["--lang", "zh"]), ("cp1252", ["--lang", "zh", "--json"]),
                                                 ("ascii", ["--lang", "zh", "--help"])])
def test_old_consoles_crash_nothing(encoding, arguments):
    done = subprocess.run([sys.executable, "-m", "forno_doctor", *arguments], cwd=ROOT, env={"PATH": "/usr/bin:/bin", "PYTHONIOENCODING": encoding}, capture_output=True, timeout=60)
    assert b"Traceback" not in done.stderr and done.returncode in (0, 1, 2) and done.stdout, done.stderr
    text = done.stdout.decode(encoding)
    if "--json" in arguments: assert json.loads(text)["language"] == "zh" and "?" not in json.loads(text)["forno"]["told"]
    elif encoding == "cp936": assert "驱动" in text
    elif encoding == "cp1252": assert "✗" not in text and "·" in text


def test_the_reader_of_a_pipe_may_leave():
    done = subprocess.run(f'"{sys.executable}" -m forno_doctor --verbose | head -c 10', cwd=ROOT, shell=True, capture_output=True, timeout=60)
    assert b"Traceback" not in done.stderr and b"BrokenPipe" not in done.stderr


# ---------------------------------------------------------------- languages
@pytest.mark.parametrize("language", LANGUAGES)
def test_help(language, capsys):
    with pytest.raises(SystemExit) as e: cli.main(["--lang", language, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert e.value.code == 0 and max(map(report.columns, lines)) <= 102
    text = "\n".join(lines)
    assert all(option in text for option in ("--python", "--json", "--html", "--redact", "--only", "--ignore", "--output", "--color", "--verbose", "--lang"))
    assert ("退出码" in text and "用法" in text) == (language == "zh") and ("exit code: 0" in text) == (language == "en")


def test_help_of_every_command_is_chinese(capsys):
    """Each option of each command has its sentence."""
    p = cli.parser(Words("zh"))
    commands = next(a for a in p._actions if a.dest == "command").choices
    english = [f"{name} {a.option_strings or a.dest}: {a.help}" for name, c in {"": p, **commands}.items() for a in c._actions if a.help and a.dest != "command" and a.help.isascii()]
    english += [f"{name}: {c.description}" for name, c in commands.items() if not c.description or c.description.isascii()]
    assert not english, "\n".join(english)


def test_language_of_a_person():
    assert cli.preferred({"LANG": "zh_CN.UTF-8"}) == "zh" and cli.preferred({"LC_ALL": "en_GB", "LANG": "zh_CN"}) == "en" and cli.preferred({"LANG": "C"}) == "en"


def test_catalogues_hold_no_sentence_that_nothing_says():
    """Keys of what people see are used somewhere; findings' are tested where they are found."""
    source = "".join(f.read_text(encoding="utf-8") for f in (ROOT / "forno_doctor").glob("*.py")) + "".join(f.read_text(encoding="utf-8") for f in (ROOT / "forno_doctor/cli").glob("*.py"))
    for key in catalogue("en"):
        area, part = key.split(".", 1)
        if area in ("report", "next", "cli"): assert re.search(rf"""["'.\w-]{part}["')}}]|{area}-|["']{part.split('-')[0]}-""", source), key


# ---------------------------------------------------------------- what --redact takes out
SECRETS = ["alice", "wintermute", "acme", "secret-project", "0324717012345", "10.20.30.40", "fe80::1ff:fe23:4567:890a", "00112233445566778899aabbccddeeff", "tok3n", "bob@", "/data/", "My Work"]


def private(folder):
    """A machine full of what is nobody's business."""
    own = "/".join(("", "home", "alice"))
    home = f"{own}/secret-project/venv"
    m = Machine(folder, environment={"USER": "alice", "HOME": own, "HOSTNAME": "wintermute.acme.example", "LD_LIBRARY_PATH": f"/data/acme/lib:{own}/My Work/lib"})
    m.site = f"{home}/lib/python3.12/site-packages"
    m.about["python"] = f"{home}/bin/python"
    m.says("python", json.dumps({"version": "3.12.4", "implementation": "CPython", "prefix": home, "base": "/usr", "path": [m.site], "free": False, "bits": 64}))
    m.file("/etc/hostname", "wintermute\n").gpu("NVIDIA GeForce RTX 5090", "12.0", driver="570.124.06")
    said = json.loads(m.answers["cuda"]["out"])
    said["devices"][0]["uuid"] = "00112233445566778899aabbccddeeff"
    m.says("cuda", json.dumps(said))
    m.torch("2.6.0+cu124", architectures=["5.0", "9.0"], extras={"torchvision": "0.20.1+cu124"})
    return m.library("/data/acme/lib/libcudnn.so.9.0.1").file(f"{own}/My Work/lib/libnccl.so.2", "no library")


def leaky(m):
    raise RuntimeError(f"serial number: 0324717012345 of wintermute (10.20.30.40, fe80::1ff:fe23:4567:890a), ask bob@acme.example; alice has cuDNN 9.1.0.70 of {m.python.prefix} from "
                       "https://alice:tok3n@wheels.acme.example/secret-project/simple or https://download.pytorch.org/whl/cu124")


def test_secrets_are_in_no_output(doctor, monkeypatch, tmp_path):
    monkeypatch.setattr(sys.modules["forno_doctor.diagnose"], "ALL", [leaky, *sys.modules["forno_doctor.diagnose"].ALL])
    drawn = tmp_path / "house.html"
    open_, closed = (dict(zip(("text", "json", "html"), (doctor(private, *more, "--verbose", "--lang", "en")[1], doctor(private, *more, "--json")[1],
                                                         doctor(private, *more, "--html", str(drawn)) and drawn.read_text(encoding="utf-8")))) for more in ([], ["--redact"]))
    for kind in ("text", "json", "html"):
        assert [s for s in SECRETS if s in open_[kind]], f"{kind}: the fixture shows none"
        found = [s for s in SECRETS if s.lower() in closed[kind].lower()]
        assert not found, f"{kind}: {found}"
        assert "https://download.pytorch.org/whl/cu124" in closed[kind] and "9.1.0.70" in closed[kind] and "12.0" in closed[kind]
        assert "[path-1]/lib/python3.12/site-packages" in closed[kind] and "[path-1]/bin/python -m pip install" in closed[kind]
    every = set().union(*(set(re.findall(r"\[(?:user|host|path|uuid|serial|address|mail)-\d+\]", closed[k])) for k in closed))
    assert {"[user-1]", "[host-1]", "[serial-1]", "[address-1]", "[address-2]", "[mail-1]", "[path-1]"} <= every, every
    assert len([s for s in SECRETS if s in open_["json"]]) >= 9


def test_one_secret_has_one_replacement(tmp_path):
    host = private(tmp_path).host()
    t = look.redacted(report.told(look.diagnose(host), Words()), host)
    assert t["machine"]["python"]["prefix"] == "[path-1]" and t["machine"]["torch"]["folder"] == "[path-1]/lib/python3.12/site-packages/torch"
    assert t["machine"]["gpus"][0]["uuid"].startswith("[uuid-") and t["machine"]["driver"]["library"] == "/usr/lib/x86_64-linux-gnu/libcuda.so.1"
    assert "[path-1]" in page.html(t, Words()) and "[path-1]" in report.text(t, Words())


def test_windows_is_redacted(tmp_path):
    r = Redactor({"machine": {"packages": [], "libraries": [], "x": r"C:\Users\Alice Li\venv"}, "findings": []},
                                              Host(tmp_path, system="windows", environment={"USERNAME": "Alice Li", "COMPUTERNAME": "DESK-9"}, answers={}))
    assert r(r"C:\Users\Alice Li\venv\Lib\site-packages\torch") == r"[path-1]\Lib\site-packages\torch" and r(r"C:\Windows\System32\nvcuda.dll") == r"C:\Windows\System32\nvcuda.dll"
    assert r("DESK-9 of Alice Li") == "[host-1] of [user-1]" and r(r"D:\work\x.log, see \\files\share\x") == "[path-2], see [path-3]"


def test_macs_are_redacted(tmp_path):
    r = Redactor({"machine": {"packages": [], "libraries": []}, "findings": []},
                                              Host(tmp_path, system="macos", environment={"USER": "jane"}, answers={"hostname": {"out": "Janes-Mac.local\n"}}))
    assert r("/".join(("", "Users", "jane", "x of jane on janes-mac"))) == "[path-1] of [user-1] on [host-1]"


def test_what_says_nothing_stays(tmp_path):
    r = Redactor({"machine": {"packages": [{"version": "9.1.0.70"}], "libraries": []}, "findings": []}, Host(tmp_path, environment={"USER": "root"}, answers={}))
    for text in ("cuDNN 9.1.0.70 and 9.19.0.56", "/usr/lib/x86_64-linux-gnu/libcuda.so.1", "/opt/conda/envs", "$ORIGIN/../../nvidia/cudnn/lib", "root can", "0000:01:00.0", "12:30:05",
                 "https://download.pytorch.org/whl/cu126", "pip install torch==2.6.0", "n/a", "driver 580.95.05"): assert r(text) == text


@pytest.mark.parametrize("started, typed", [("/srv/site/forno_doctor/__main__.py", "python -m forno_doctor"), ("/srv/bin/forno-doctor", "forno-doctor"), ("/srv/bin/forno", "forno doctor"),
                                            ("/srv/site/forno/__main__.py", "forno doctor")])
def test_commands_are_told_as_this_one_was_typed(started, typed, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [started])
    cli.main(["--lang", "en", "explain-error", "libcudart.so.13: cannot open shared object file"])
    assert capsys.readouterr().out.rstrip().endswith(f"$ {typed}")
