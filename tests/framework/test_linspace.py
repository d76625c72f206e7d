"""linspace is a kernel: PyTorch's points, mirrored from both ends, in every dtype."""
import pytest
import torch

import forno

ENDS = [(0, 1, 5), (-3, 7, 11), (5, -5, 11), (0, 300, 4), (2, 2, 3), (0, 1, 2), (0.5, 100.5, 9), (1, 5, 1), (0, 1, 0)]


@pytest.mark.parametrize("name", "float32 float64 float16 bfloat16 int64 int32 int8 complex64 complex128".split())
@pytest.mark.parametrize("ends", ENDS)
def test_points(name, ends):
    try: want = torch.linspace(*ends, dtype=getattr(torch, name))
    except RuntimeError as error:
        with pytest.raises(RuntimeError, match=str(error)): forno.linspace(*ends, dtype=getattr(forno, name))
        return
    got = torch.tensor(forno.linspace(*ends, dtype=getattr(forno, name)).tolist(), dtype=want.dtype)
    torch.testing.assert_close(got, want, rtol=1e-6 if name in ("float32", "complex64") else None, atol=0 if name in ("float32", "complex64") else None)


def test_steps_are_equal_from_both_ends():
    x = forno.linspace(0.1, 0.7, 1001)
    assert x[0].item() == pytest.approx(0.1) and (x + x.flip(0)).tolist() == pytest.approx([0.8] * 1001)
    assert forno.linspace(0, 1, 3, requires_grad=True).requires_grad
    assert forno.linspace(forno.tensor(0.0), forno.tensor(2.0), 3).tolist() == [0.0, 1.0, 2.0]
