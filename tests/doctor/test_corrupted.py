"""Whole machines with files that are cut, changed, swapped for folders, in circles or gone, and programs that answer rubbish or nothing: the doctor says something, soon, and
no check breaks on it."""
import os
import random
import shutil
import time
from pathlib import Path

import pytest

from forno_doctor import Host, diagnose, page, report
from forno_doctor.words import Words

from . import healthy
from .machines import Machine

SECONDS = 5.0                                  # for one machine, on a busy one
DEEP = "[" * 100_000


def broken(folder) -> Machine:
    """Many things are wrong already: the checks that look deep have something to look at."""
    m = Machine(folder, environment={"LD_LIBRARY_PATH": "/usr/local/cuda/lib64:/nowhere", "CUDA_VISIBLE_DEVICES": "0,7", "HOME": "/home/somebody"})
    m.gpu("NVIDIA GeForce RTX 5090", "12.0", driver="570.124.06").torch("2.6.0+cu124", architectures=["8.0", "9.0+PTX"], extras={"torchvision": "0.20.1+cu121", "torchaudio": "2.6.0"})
    m.nvidia("11").package("numpy", "2.1.0").package("flash-attn", "2.5.0", ["torch"]).library("/usr/local/cuda/lib64/libcudnn.so.9")
    m.library(f"{m.site}/torchvision/_C.so", needed=["libc10.so", "libtorch.so"], undefined=["_ZN2at4_ops3subE"])
    return m.file("/usr/local/cuda/version.json", '{"cuda": {"version": "11.8"}}').file(f"{m.site}/../conda-meta/pytorch-2.6.0-cpu_0.json", '{"name": "pytorch", "version": "2.6.0"}')


MACHINES = [broken, *healthy.MACHINES]


def harm(m: Machine, rng: random.Random):
    """A few of a machine's files and answers."""
    files = [p for p in m.folder.rglob("*") if p.is_file() and p.name not in ("host.json", "answers.json")]
    for _ in range(rng.randrange(1, 8)):
        place, kind = rng.choice(files), rng.randrange(8)
        if not place.is_file(): continue
        data = place.read_bytes()
        if kind == 0: place.unlink()
        elif kind == 1: place.write_bytes(data[:rng.randrange(len(data) + 1)])
        elif kind == 2: place.write_bytes(os.urandom(rng.randrange(2000)))
        elif kind == 3 and data: place.write_bytes(bytes(b ^ (rng.random() < 0.02) * rng.randrange(256) for b in data))
        elif kind == 4:
            place.unlink()
            place.mkdir()
        elif kind == 5:
            place.unlink()
            place.symlink_to(place.name)
        elif kind == 6: place.write_text(DEEP)
        else: place.write_bytes(rng.choice([f for f in files if f.is_file()]).read_bytes())
    for name in list(m.answers):
        if rng.random() < 0.15: m.answers[name] = rng.choice([{"code": None, "out": "", "err": ""}, {"code": -11, "out": "", "err": "Segmentation fault"}, {"code": 0, "out": "null", "err": ""},
                                                              {"code": 0, "out": "{", "err": ""}, {"code": 0, "out": DEEP, "err": ""}, {"code": 0, "out": "[1, 2]", "err": ""}])
        if rng.random() < 0.05: del m.answers[name]


def examined(folder: Path, seed: int):
    rng = random.Random(seed)
    m = rng.choice(MACHINES)(folder)
    m.host()
    harm(m, rng)
    start = time.perf_counter()
    host: Host = m.host()
    found = diagnose(host)
    assert time.perf_counter() - start < SECONDS, f"seed {seed}"
    failed = [f"{f.data} {f.evidence}"[-300:] for f in found.findings if f.id == "check-failed"]
    assert not failed, f"seed {seed}: {failed}"
    words = Words(rng.choice(["en", "zh"]))
    told = report.told(found, words)
    assert report.text(told, words, verbose=True) and page.html(told, words)


def test_machines_with_broken_files(tmp_path):
    for seed in range(60): examined(tmp_path / str(seed), seed)


@pytest.mark.slow
def test_many_machines_with_broken_files(tmp_path):
    for seed in range(1000, 6000):
        examined(tmp_path / str(seed), seed)
        shutil.rmtree(tmp_path / str(seed))
