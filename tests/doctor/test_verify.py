"""The proof that a GPU works: on simulated machines, whose drivers are tables of C functions like the real one's, and its PTX through NVIDIA's assembler."""
import ctypes
import json
import sys
from argparse import Namespace

import pytest

from forno.gpu.sim import Machine as Simulated
from forno_doctor import Host, prove
from forno_doctor.cli import verify as command
from forno_doctor.host import Answer
from forno_doctor.verify import Proof, read, torch, verify
from forno_doctor.words import Words
from tests.gpu import ptx_tools

from .machines import Machine

MB = 1 << 20


def driver(machine, **instead):
    """cuMemAlloc_v2 is "MemAlloc" in the simulated machine's table."""
    table = machine.table()
    return prove.Driver(lambda name: instead.get(name) or ctypes.CFUNCTYPE(ctypes.c_int)(table[name.removeprefix("cu").removesuffix("_v2")]))


def test_devices_that_work():
    with Simulated(devices=2, seed=3) as machine:
        for device in (0, 1):
            proof = prove.prove(driver(machine), device, MB)
            assert proof["ok"] and proof["wrong"] == 0 and proof["device"] == device and proof["name"] == "Simulated H200"
            assert sorted(proof["bandwidth"]) == ["device", "in", "out"] and all([rate > 0 for rate in proof["bandwidth"].values()])
            assert read(device, Answer(0, json.dumps(proof), "")).ok


def test_a_device_that_forgets():
    """Results that come back changed are seen."""
    with Simulated(seed=1) as machine:
        copy = ctypes.CFUNCTYPE(ctypes.c_int)(machine.table()["MemcpyDtoH"])

        def damaged(to, place, size):
            code = copy(to, place, size)
            (ctypes.c_uint * 100).from_address(to.value)[77] ^= 1
            return code
        proof = prove.prove(driver(machine, cuMemcpyDtoH_v2=damaged), 0, MB)
    assert not proof["ok"] and proof["wrong"] == 1


@pytest.mark.parametrize("function, code, step", [("cuInit", 999, "open"), ("cuDeviceGet", 101, "open"), ("cuMemAlloc_v2", 2, "memory"), ("cuModuleLoadDataEx", 222, "compile"),
                                                  ("cuLaunchKernel", 719, "kernel"), ("cuMemHostAlloc", 2, "bandwidth")])
def test_what_a_driver_refuses(function, code, step, capsys):
    with Simulated(seed=1) as machine: proof = prove.prove(driver(machine, **{function: lambda *_: code}), 0, MB)
    assert (proof["ok"], proof["step"], proof["function"], proof["code"]) == (False, step, function, code)
    for language in ("en", "zh"):
        told = "\n".join(command.lines(read(0, Answer(1, json.dumps(proof), "")), Words(language)))
        assert function in told and str(code) in told and len(told.splitlines()) == 2


@pytest.mark.parametrize("arch", ["sm_75", "sm_90", "sm_120"])
def test_nvidias_assembler_takes_the_kernel(arch, tmp_path):
    if ptx_tools.ptxas() is None: pytest.skip("no ptxas: it comes with the package nvidia-cuda-nvcc")
    assert ptx_tools.assemble(prove.PTX, arch, tmp_path) == ""


def fixture(tmp_path, **said):
    m = Machine(tmp_path).gpu("NVIDIA GeForce RTX 4090", "8.9")
    for name, answer in said.items(): m.says(name.replace("_", " "), **answer)
    return m.host()


def options(**more): return Namespace(**{"words": Words("en"), "device": None, "size": 1, "torch": False, "json": False, **more})


GOOD = {"device": 0, "ok": True, "name": "A", "wrong": 0, "seconds": 0.4, "bandwidth": {"device": 9e11, "in": 2.5e10, "out": 2.5e10}, "theory": 1.008e12}


def test_exit_codes_and_words(tmp_path, capsys):
    for k, (answer, code, words) in enumerate([(GOOD, 0, "89 % of the 1008 GB/s"), (GOOD | {"bandwidth": GOOD["bandwidth"] | {"device": 1e11}}, 1, "only 10 %"),
                                               (GOOD | {"ok": False, "wrong": 3}, 2, "3 of 65,536 results are WRONG")]):
        assert command.tell(fixture(tmp_path / str(k), verify_0={"out": json.dumps(answer)}), options()) == code
        assert words in capsys.readouterr().out
    assert command.tell(fixture(tmp_path / "hangs", verify_0={"code": None}), options()) == 2 and "hangs" in capsys.readouterr().out
    assert command.tell(fixture(tmp_path / "dies", verify_0={"code": -11, "err": "Segmentation fault"}), options()) == 2 and "Segmentation fault" in capsys.readouterr().out
    assert command.tell(Machine(tmp_path / "none").host(), options()) == 1 and "No GPU to prove" in capsys.readouterr().out


def test_json(tmp_path, capsys):
    assert command.tell(fixture(tmp_path, verify_0={"out": json.dumps(GOOD)}, verify_torch={"out": 'noise\n{"version": "2.13.0", "devices": [true]}'}), options(json=True, torch=True)) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["devices"][0]["ok"] and said["torch"] == {"version": "2.13.0", "devices": [True], "error": "", "ok": True}


def test_a_real_child_without_a_driver_says_so():
    """On a machine with a driver it proves the device instead."""
    proof, = verify(Host(), [0], megabytes=1, seconds=60)
    assert proof.ok or proof.step in ("library", "open") and (proof.error or proof.code)


def test_a_child_that_hangs_is_stopped(tmp_path):
    sleeper = tmp_path / "python"
    sleeper.write_text(f"#!{sys.executable}\nimport time; print('begun', flush=True); time.sleep(60)\n")
    sleeper.chmod(0o755)
    proof, = verify(Host(python=str(sleeper)), [0], seconds=1.0)
    assert proof.step == "hung" and not proof.ok


def test_torch_without_a_device():
    proof = torch(Host())
    assert not proof.ok and (proof.version or proof.error)


def test_rubbish_is_no_proof():
    for text in ("", "[]", "{", "null", '{"ok": true}'):
        try: proof = read(0, Answer(0, text, ""))
        except (TypeError, AttributeError) as error: pytest.fail(f"{text!r}: {error}")
        assert not proof.ok
    assert not Proof(0, step="died").ok
