"""Second derivatives are PyTorch's: of the functions most programs use, at small samples of PyTorch's database; of the next tier, all samples and complex numbers, marked slow."""
from __future__ import annotations

import warnings

import pytest

pytest.importorskip("expecttest")
import torch  # noqa: E402

from . import second, walk  # noqa: E402
from .test_t0 import NAMES  # noqa: E402

KNOWN = {"cumprod": "beyond a line's first zero, the gradient's own gradient leaves out what PyTorch finds in n² steps",
         "linalg.norm": "PyTorch's is NaN for nuclear norms of nothing but zeros, ours 0"}


def names(tier, dtype): return [n for n in NAMES[tier] if second.differentiable(walk.INFOS[n], dtype)]


def settled(name, limit, dtype=torch.float64):
    bad = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i, check in second.checks(name, limit, dtype):
            try: check()
            except Exception as error: bad.append(f"sample {i}: {type(error).__name__}: {str(error)[:300]}")
    if name in KNOWN and not limit: assert bad, f"{name} works now: take it off KNOWN ({KNOWN[name]})"
    elif name not in KNOWN: assert not bad, "\n".join(bad)


@pytest.mark.parametrize("name", names("t0", torch.float64)[::3])
def test_first_functions(name): settled(name, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", names("t0", torch.float64) + names("t1", torch.float64))
def test_every_sample(name): settled(name, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", names("t0", torch.complex128) + names("t1", torch.complex128))
def test_complex(name): settled(name, 8, torch.complex128)
