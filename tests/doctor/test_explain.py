"""Logs of broken installations are recognised, causes before consequences, with what helps on the machine at hand; in bounded time, whatever is pasted."""
import io
import json
import random
import re
import subprocess
import sys
import time

import pytest

from forno_doctor import diagnose, explain, facts
from forno_doctor.cli import main
from forno_doctor.words import Words, catalogue

from .machines import Machine

KINDS = facts.table("symptoms")["symptoms"]
CHAIN = """INFO starting
UserWarning: CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver
torch.cuda.is_available(): False
AssertionError: Torch not compiled with CUDA enabled
"""


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """A machine whose torch fits, examined once."""
    return diagnose(Machine(tmp_path_factory.mktemp("healthy") / "m").gpu("NVIDIA GeForce RTX 4090", "8.9", driver="550.54.14").torch("2.6.0+cu124", architectures=["5.0", "8.0", "8.6", "9.0"]).host())


def told(text, report, language="en"):
    found = explain.explain(text, report)
    return found, explain.text(found, report, Words(language))


# ---------------------------------------------------------------- recognising
def test_every_kind_of_failure_is_known():
    assert len(KINDS) >= 42 and len({k["id"] for k in KINDS}) == len(KINDS)
    assert {k.get("cluster") for k in KINDS} >= {f"A{n}" for n in range(1, 17)}


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k["id"])
def test_a_sample_is_recognised_and_told_in_both_languages(kind, healthy):
    log = f"2026-11-20 10:11:12 [rank0] \x1b[31mERROR\x1b[0m {kind['sample']}\r\nand more\r\n"
    found, english = told(explain.decoded(log.encode()), healthy)
    assert kind["id"] in [m.id for m in found] and found[0].line == 1
    assert len({m.id for m in found}) <= 2, "a sample says one thing, and at most what it follows from"
    chinese = told(log, healthy, "zh")[1]
    for text in (english, chinese): assert kind["id"] in text and "{" not in re.sub(r"\{libcudnn[^}]*\}?", "", text)
    assert re.search("[\u4e00-\u9fff]", chinese) and max(map(len, (line for line in english.splitlines() if "$" not in line))) <= 80


@pytest.mark.parametrize("id, text", [
    ("device_busy", "RuntimeError: CUDA error: all CUDA-capable devices are busy or unavailable"), ("no_driver", "WARNING: The NVIDIA Driver was not detected.  GPU functionality will not be available."),
    ("cudnn8_wanted", "Could not locate cudnn_ops64_9.dll. Please make sure it is in your library path!"), ("cudnn8_wanted", "Could not load library cudnn_ops_infer64_8.dll. Error code 126"),
    ("cudnn_unable_load", "Unable to load any of {libcudnn_ops.so.9.1.0, libcudnn_ops.so.9.1, libcudnn_ops.so.9, libcudnn_ops.so}\nInvalid handle. Cannot load symbol cudnnCreateTensorDescriptor"),
    ("compat_804", "cudaGetDeviceCount(). Did you run some cuda functions before? Error 804: forward compatibility was attempted on non supported HW (Triggered internally at ../c10/cuda/CUDAFunctions.cpp:108.)"),
    ("driver_insufficient", "CUDA error at helper_cuda.h:779 code=35(cudaErrorInsufficientDriver) \"cudaGetDeviceCount(&device_count)\""),
    ("ext_symbol", "flash_attn_2_cuda.cpython-38-x86_64-linux-gnu.so: undefined symbol: _ZN3c104cuda20CUDACachingAllocator9allocatorE"), ("ext_symbol", "dropout_layer_norm.so: undefined symbol: _ZNK5torch8autograd4Node4nameEv"),
    ("numpy2", "ValueError: numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header, got 88 from PyObject"),
    ("unsupported_ptx", "numba.cuda.cudadrv.driver.LinkerError: Unsupported .version 8.7; current version is '8.4'"), ("cuda_not_available", "Is CUDA available: False"),
    ("not_compiled_cuda", "    raise AssertionError(\"Torch not compiled with CUDA enabled\")"), ("winerror126", "OSError: [WinError 127] The specified procedure could not be found. Error loading \"C:\\a\\lib\\shm.dll\" or one of its dependencies.")])
def test_other_ways_to_say_it(id, text): assert explain.search(text)[0].id == id


@pytest.mark.parametrize("text", ["", "epoch 1 loss 0.53", "torch.cuda.is_available(): True", "pip install torch==2.6.0", "Successfully installed torch-2.6.0", "No module named 'torchx'",
                                  "version 2.28 of glibc found", "driver 580 is new enough", "CUDA available: True", "foo requires bar==1, but you have bar 2 which is incompatible.",
                                  "Could not find a version that satisfies the requirement django==9 (from versions: none)", "libfoo.so.1: cannot open shared object file"])
def test_other_text_is_not(text): assert not explain.search(text)


@pytest.mark.parametrize("text, values", [
    ("The NVIDIA driver on your system is too old (found version 12020).", {"cuda": "12.2", "number": "12020"}),
    ("GPU with CUDA capability sm_61 is not compatible with the current PyTorch installation", {"capability": "6.1"}),
    ("ptxas fatal   : Value 'sm_100a' is not defined for option 'gpu-name'", {"capability": "10.0"}),
    ("cuDNN version incompatibility: PyTorch was compiled  against (9, 10, 2) but found runtime version (8, 9, 7)", {"compiled": "9.10.2", "found": "8.9.7"}),
    ("torchaudio 2.5.0 requires torch==2.5.0, but you have torch 2.6.0+cu124 which is incompatible.", {"package": "torchaudio", "wanted": "2.5.0", "torch": "2.6.0+cu124"}),
    ("OSError: libcudart.so.13: cannot open shared object file", {"library": "libcudart.so.13"}),
    ("undefined symbol: __nvJitLinkAddData_12_1, version libnvJitLink.so.12", {"major": "12", "minor": "1"}),
    ("ImportError: /opt/app/x/flash_attn_2_cuda.cpython-312-x86_64-linux-gnu.so: undefined symbol: _ZN2at4_ops5zeros4callE", {"file": "/opt/app/x/flash_attn_2_cuda.cpython-312-x86_64-linux-gnu.so"}),
    ("requires a different Python: 3.9.2 not in '>=3.10'", {"python": "3.9.2", "wanted": ">=3.10"}),
    ("unsatisfied condition: cuda>=12.4, please", {"cuda": "12.4"}),
    ("The detected CUDA version (12.4) mismatches the version that was used to compile\nPyTorch (11.8)", {"toolkit": "12.4", "cuda": "11.8"})])
def test_values_are_read(text, values):
    found = explain.search(text)[0]
    assert values.items() <= found.values.items()


def test_causes_come_before_what_follows():
    found = explain.search(CHAIN)
    assert [m.id for m in found] == ["driver_too_old", "cuda_not_available", "not_compiled_cuda"] and found[1].follows == ["driver_too_old"]
    turned = explain.search("\n".join(CHAIN.splitlines()[::-1]))
    assert [m.id for m in turned].index("driver_too_old") < [m.id for m in turned].index("cuda_not_available"), "also if the log names the consequence first"


def test_consequences_make_no_circle():
    kinds = explain.symptoms()
    assert all(b in kinds for k in kinds.values() for b in k.leads_to)
    logs = list(KINDS)
    random.Random(3).shuffle(logs)
    found = explain.search("\n".join(k["sample"] for k in logs))
    assert {m.id for m in found} == set(kinds), "each once, none is lost"
    at = {m.id: i for i, m in enumerate(found)}
    assert all(at[a] < at[b] for a in kinds for b in kinds[a].leads_to)


def test_one_kind_with_several_values_and_again():
    found = explain.search("libcudart.so.11.0: cannot open shared object file\nlibnccl.so.2: cannot open shared object file\n" * 3)
    assert [(m.values["library"], m.count, m.line) for m in found] == [("libcudart.so.11.0", 3, 1), ("libnccl.so.2", 3, 2)]


# ---------------------------------------------------------------- this machine
def test_the_commands_are_this_machines(tmp_path):
    m = Machine(tmp_path).gpu("Tesla T4", "7.5", driver="470.57.02").torch("2.6.0+cu124", architectures=["7.5"])
    report = diagnose(m.host())
    found, text = told(CHAIN, report)
    finding = next(f for f in report.findings if f.id == "driver-too-old")
    assert found[0].findings[0].id == "driver-too-old" and finding.commands[0] in text and finding.verify in text


def test_without_the_trouble_it_says_so(healthy, tmp_path):
    assert "does not show it now" in told(CHAIN, healthy)[1]
    assert "No NVIDIA GPU was found on this machine" in told(CHAIN, diagnose(Machine(tmp_path / "other").host()))[1]


def test_a_message_of_another_machine_gets_what_fits_there(healthy):
    found, text = told("NVIDIA GeForce RTX 5090 with CUDA capability sm_120 is not compatible with the current PyTorch installation.", healthy)
    assert found[0].planned[0].startswith("/opt/app/bin/python -m pip install --force-reinstall torch==") and found[0].planned[0] in text
    old = told("The NVIDIA driver on your system is too old (found version 11040).", healthy)[0][0]
    assert old.planned[0].endswith("/whl/cu118"), "CUDA 11.4 is driver 470, which runs CUDA 11"
    assert not told("RTX 4090 with CUDA capability sm_89 is not compatible with the current PyTorch installation.", healthy)[0][0].planned, "that is this machine's GPU, and its torch fits"


def test_commands_are_bound_to_the_examined_python(healthy):
    found = {m.id: m for m in told("RuntimeError: Numpy is not available\nTorch not compiled with CUDA enabled", healthy)[0]}
    assert found["numpy2"].commands == ['/opt/app/bin/python -m pip install "numpy<2"'] and found["not_compiled_cuda"].check[0].startswith('/opt/app/bin/python -c "import torch')


def test_windows_gets_no_commands_of_unix(tmp_path):
    everything = "\n".join(k["sample"] for k in KINDS)
    typed = [c for m in told(everything, diagnose(Machine(tmp_path, system="windows").host()))[0] for c in m.commands + m.check]
    assert "winget install Microsoft.VCRedist.2015+.x64" in typed and "nvidia-smi" in typed
    assert not [c for c in typed if re.search(r"LD_LIBRARY|grep|sudo|/proc|ldd|lsmod|unset", c)]


def test_families_are_findings():
    titles = {key[:-6] for key in catalogue("en") if key.endswith(".title")}
    assert {f for k in KINDS for f in k.get("families", ())} <= titles


# ---------------------------------------------------------------- whatever is pasted
HINTS = [h for k in KINDS for h in k["hints"]]
HOSTILE = {"noise": lambda: random.Random(1).randbytes(10 << 20), "one line": lambda: b"a" * (10 << 20), "zeros": lambda: b"\0" * (10 << 20),
           "hints": lambda: "\n".join(HINTS * 3000).encode(), "hints without lines": lambda: "".join(h + " " + "x" * 50 for h in HINTS * 1500).encode(),
           "dots": lambda: ("/x.so" * 40 + ": undefined symbol: nc ").encode() * 45000, "escapes": lambda: b"\x1b[0;" * (3 << 20),
           "digits": lambda: "".join("1" * 400 + h + "9" * 400 for h in HINTS * 100).encode(),
           "spaces": lambda: (b"PyTorch was compiled" + b" " * 500 + b"cuDNN version incompatibility: PyTorch was compiled") * 19000,
           "truncated utf-16": lambda: b"\xff\xfe" + b"\x00\xd8" * (4 << 20)}


@pytest.mark.parametrize("name", HOSTILE)
def test_ten_megabytes_take_bounded_time(name):
    data = HOSTILE[name]()
    assert len(data) > 6 << 20
    start = time.process_time()
    found = explain.search(explain.decoded(data[:10 << 20]))
    assert time.process_time() - start < 4 and len(found) <= explain.VALUES * len(KINDS)


def test_a_message_in_the_middle_of_a_huge_log():
    found = explain.search("x" * (5 << 20) + "\n" + CHAIN + "y" * (5 << 20))
    assert [m.line for m in found] == [3, 4, 5] and all(len(m.text) <= 2 * explain.LINE for m in found)


def test_nothing_of_a_log_reaches_the_terminal_as_an_order(healthy):
    text = told("Found GPU0 \x9b31m\x1b]0;title\x07 {gpu} %s which is of compute capability (CC) 8.7\x08\x08", healthy)[1]
    assert "[cc_list_warning_new]" in text and "{gpu} %s" in text and all(c.isprintable() or c == "\n" for c in text)


def test_changed_messages_break_nothing(healthy):
    rng = random.Random(7)
    seen = set()
    for k in KINDS:
        for _ in range(6):
            chars = list(k["sample"])
            for _ in range(rng.randint(1, 4)): chars[rng.randrange(len(chars))] = rng.choice("(){}[]'\"\\ \n\t0Az.\x1b\x00\u4e2d\U0001f600")
            found, text = told("".join(chars), healthy, rng.choice(["en", "zh"]))
            seen |= {m.id for m in found}
            assert text and all(m.line >= 1 for m in found)
    assert len(seen) > len(KINDS) // 2


def test_repetitions_have_ends():
    """No pattern may try more than a few hundred characters from one place."""
    for k in KINDS: assert not re.search(r"(?<!\\)[*+](?!\?\))|\{\d+,\}", re.sub(r"\[[^\]]*\]|\\.", "c", k["regex"])), k["id"]


def test_logs_of_windows():
    assert [m.id for m in explain.search(explain.decoded("Torch not compiled with CUDA enabled\r\n".encode("utf-16")))] == ["not_compiled_cuda"]


# ---------------------------------------------------------------- the command
def test_the_command(tmp_path, capsys, monkeypatch):
    assert main(["--lang", "en", "explain-error", "Torch not compiled", "with CUDA enabled"]) == 1
    assert "[not_compiled_cuda]" in capsys.readouterr().out
    log = tmp_path / "log.txt"
    log.write_text(CHAIN)
    for arguments in (["--file", str(log)], [str(log)]):
        assert main(["explain-error", *arguments, "--json"]) == 1
        said = json.loads(capsys.readouterr().out)
        assert said["schema"] == 1 and [m["id"] for m in said["messages"]] == ["driver_too_old", "cuda_not_available", "not_compiled_cuda"] and said["messages"][0]["values"]["cuda"] == "11.4"
    assert main(["--lang", "en", "explain-error", "all is well"]) == 0
    out = capsys.readouterr().out
    assert "Nothing in this text" in out and "forno doctor --json --redact" in out
    assert main(["explain-error", "--file", str(tmp_path / "none")]) == 2
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert main(["explain-error"]) == 2


def test_from_a_pipe():
    done = subprocess.run([sys.executable, "-m", "forno_doctor", "--lang", "zh", "explain-error"], input=CHAIN.encode(), capture_output=True, timeout=60)
    assert done.returncode == 1 and "驱动" in done.stdout.decode("utf-8", "replace") and not done.stderr
