"""Random programs agree with PyTorch: a few hundred here, the rest behind the marker `slow`."""
import warnings

import hypothesis
import hypothesis.strategies as st
import pytest
import torch

from forno.core.flags import flags

from .programs import Program, main


@pytest.fixture(autouse=True)
def quiet():
    threads, window = torch.get_num_threads(), flags.WINDOW
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_num_threads(threads)
    flags.WINDOW = window


@hypothesis.settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(st.randoms(use_true_random=False))
def test_random_programs(r):
    log = []
    try: Program(r, log).run()
    except AssertionError as e: raise AssertionError("\n".join([str(e), *log])) from None


@pytest.mark.parametrize("first", [0, 100, 200])
def test_seeds(first): assert main(first, first + 100) == 0


@pytest.mark.slow
def test_ten_thousand(): assert main(1000, 11000) == 0
