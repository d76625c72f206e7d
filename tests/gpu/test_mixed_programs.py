"""Random programs whose tensors lie on the CPU and on two GPUs give what PyTorch gives on the CPU: some here, hundreds marked slow."""
import warnings

import pytest
import torch

from tests.fuzz import devices


@pytest.fixture(autouse=True)
def quiet():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("first", [160, 870])
def test_seeds(first): assert devices.main(first, first + 7) == 0


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 1500, 50))
def test_many(first): assert devices.main(first, first + 50) == 0
