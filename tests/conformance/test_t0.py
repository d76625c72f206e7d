"""The functions most programs use (t0.txt) do what PyTorch's do, sample by sample of PyTorch's database; those fewer use (t1.txt, t2.txt) are marked slow.

KNOWN lists what doesn't yet: each entry must still fail, so that the list can only shrink.
"""
from __future__ import annotations

import warnings
from pathlib import Path

import pytest

pytest.importorskip("expecttest")
import torch  # noqa: E402

from . import walk  # noqa: E402

HERE = Path(__file__).parent
NAMES = {tier: (HERE / f"{tier}.txt").read_text().split() for tier in ("t0", "t1", "t2")}
KNOWN = {
    ("as_strided:partial_views", torch.float32): "samples are views of larger tensors, and what is handed over here are copies",
}


def failures(name, dtype, limit) -> list[str]:
    out = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind, i, check in walk.checks(name, dtype, limit):
            try: check()
            except Exception as error: out.append(f"{kind}, sample {i}: {type(error).__name__}: {str(error)[:300]}")
    return out


def kinds(op, wanted): return [t for t in wanted if t in op.supported_dtypes("cpu")] or sorted(op.supported_dtypes("cpu"), key=str)[:1]


def settled(name, dtype, limit):
    bad = failures(name, dtype, limit)
    if (name, dtype) in KNOWN: assert bad, f"{name} {dtype} works now: take it off KNOWN ({KNOWN[name, dtype]})"
    else: assert not bad, "\n".join(bad)


@pytest.mark.parametrize("name", NAMES["t0"])
def test_function(name):
    for dtype in kinds(walk.INFOS[name], (torch.float32,)): settled(name, dtype, 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES["t0"])
def test_every_sample(name):
    for dtype in kinds(walk.INFOS[name], (torch.float32,)): settled(name, dtype, 0)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64], ids=str)
@pytest.mark.parametrize("name", NAMES["t0"])
def test_other_types(name, dtype):
    if dtype not in walk.INFOS[name].supported_dtypes("cpu"): pytest.skip("PyTorch doesn't have it either")
    settled(name, dtype, 6)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES["t1"])
def test_next_tier(name):
    for dtype in kinds(walk.INFOS[name], (torch.float32,)): settled(name, dtype, 6)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES["t2"])
def test_rare_functions(name):
    for dtype in kinds(walk.INFOS[name], (torch.float32,)): settled(name, dtype, 6)
