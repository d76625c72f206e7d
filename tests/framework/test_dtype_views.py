"""Views that change the dtype, against PyTorch: what lies where, aliasing both ways, gradients, errors, and random programs of all of it."""
import copy
import io
import pickle
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import forno
from forno.core.trace import trace
from forno.framework.engine import flush

pytestmark = pytest.mark.filterwarnings("ignore")


def both(program: str):
    """What a program leaves in `r`, in both libraries, must be equal; or both raise the same error with the same message."""
    out = []
    for lib in (torch, forno):
        space = {"torch": lib, "np": np, "copy": copy, "io": io, "pickle": pickle}
        try:
            exec(program, space)
            out.append(plain(space["r"], lib))
        except Exception as error: out.append((type(error).__name__, str(error)))
    assert same(*out), f"{program}\ntorch: {out[0]}\nforno: {out[1]}"


def plain(x, lib):
    if isinstance(x, lib.Tensor):
        y = x.detach()
        bits = y.contiguous().view(lib.int16).numpy() if y.dtype == lib.bfloat16 else y.resolve_conj().resolve_neg().numpy()
        return str(x.dtype), tuple(x.shape), tuple(x.stride()), x.storage_offset(), x.requires_grad, bits.copy()
    if isinstance(x, (tuple, list)): return [plain(y, lib) for y in x]
    return str(x) if isinstance(x, (lib.dtype, lib.Size)) else x


def same(a, b) -> bool:
    if isinstance(a, (tuple, list)): return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        if a.dtype.kind in "fc": return a.shape == b.shape and np.allclose(a, b, 1e-5, 1e-6, equal_nan=True)
        return a.shape == b.shape and np.array_equal(a, b)
    return a == b


# ---------------------------------------------------------------- what lies where
@pytest.mark.parametrize("program", [
    "x = torch.arange(4.); r = x.view(torch.int32)",
    "x = torch.arange(4.); r = [x.view(t) for t in (torch.int16, torch.uint8, torch.int64, torch.float64, torch.float16, torch.bfloat16, torch.complex64)]",
    "x = torch.arange(16, dtype=torch.int64); r = [x.view(t) for t in (torch.complex128, torch.complex64, torch.int32, torch.float64)]",
    "x = torch.arange(24.).reshape(2, 3, 4); r = [x.view(torch.float64), x.view(torch.int16), x[1].view(torch.int32), x[:, 1:].view(torch.int64)]",
    "x = torch.arange(12.).reshape(4, 3).t(); r = x.view(torch.int32)",
    "x = torch.arange(16.)[2:6]; r = [x.view(torch.float64), x.view(torch.int8)]",
    "x = torch.arange(12.).reshape(3, 4)[:, :2]; r = x.view(torch.float64)",
    "x = torch.arange(4.).reshape(1, 4).expand(3, 4); r = [x.view(torch.int16), x.view(torch.int64), x.view(torch.int32)]",
    "x = torch.ones(4, 3)[:, :1]; r = x.view(torch.int16)",
    "x = torch.tensor(2.5); r = x.view(torch.int32)",
    "r = [torch.ones(0, 4).view(torch.float64), torch.ones(4, 0).view(torch.int16), torch.ones(0).view(torch.int64), torch.ones(4, 0).view(torch.int32)]",
    "x = torch.tensor([0, 1, 1, 0], dtype=torch.uint8); r = [x.view(torch.bool), x.view(torch.bool).sum(), x.bool().view(torch.uint8)]",
    "x = torch.arange(4.); r = [x.view(dtype=torch.int32), torch.Tensor.view(x, torch.int32), x.view(torch.float32), x.view(torch.float32) is x]",
    "x = torch.arange(8.).bfloat16(); r = [x.view(torch.int16), x.view(torch.float16), x.view(torch.int32).view(torch.bfloat16)]",
    "x = torch.arange(6.).reshape(3, 2); r = [torch.view_as_complex(x), torch.view_as_complex(x).real, torch.view_as_complex(x).imag]",
    "x = torch.arange(24.).reshape(3, 4, 2)[:, 1:3]; r = [torch.view_as_complex(x), torch.view_as_complex(x.double())]",
    "r = [torch.view_as_complex(torch.arange(2.).view(2, 1).t()), torch.view_as_complex(torch.arange(9.).as_strided((2, 1, 2), (4, 3, 1)))]",
    "r = [torch.view_as_complex(torch.arange(2.)), torch.view_as_complex(torch.ones(0, 2)), torch.view_as_real(torch.tensor(1 + 2j))]",
    "x = torch.randn(3, 4, dtype=torch.complex64) * 0 + torch.arange(4); r = [torch.view_as_real(x), x.t().real, x[1:, ::2].imag, torch.view_as_real(x.t())]",
    "x = torch.arange(6.).double().reshape(2, 3) * (1 + 2j); r = [x.real, x.imag, torch.real(x), torch.imag(x), x.real.t(), x.imag[1]]",
    "x = torch.ones(3); r = [x.real, x.real is x, torch.real(x) is x]",
    "x = torch.arange(4.); r = [x.view(torch.int32).data_ptr() == x.data_ptr(), x.view(torch.int16)[3:].data_ptr() - x.data_ptr()]",
    "x = torch.ones(4, dtype=torch.complex64); r = [x.real.data_ptr() == x.data_ptr(), x.imag.data_ptr() - x.data_ptr(), x.imag[2].data_ptr() - x.data_ptr()]",
    "x = torch.arange(4.); y = x[1:].view(torch.uint8); r = [y.untyped_storage().data_ptr() == x.untyped_storage().data_ptr(), y.untyped_storage().nbytes()]",
    "x = torch.arange(3.); y = x[:2].view(torch.int64); r = [y, y.untyped_storage().nbytes(), y.element_size(), y.nbytes]",
    "c = torch.ones(2, dtype=torch.complex64); r = [c.imag.numel(), c.real.is_contiguous(), torch.view_as_real(c).is_contiguous(), c.is_conj(), c.is_neg(), c.resolve_conj() is c]",
    "x = torch.arange(4.); r = [x.view(torch.int32).view(torch.float32), x.view(torch.uint8).view(torch.int16).view(torch.complex64), x.view(torch.int64).view(2, 1)]",
    "c = torch.arange(6.).view(torch.complex64); r = [c.real.view(torch.int32), torch.view_as_real(c).view(torch.float64), torch.view_as_real(c)[1].view(torch.complex64)]",
])
def test_what_lies_where(program): both(program)


# ---------------------------------------------------------------- refusals
@pytest.mark.parametrize("program", [
    "r = torch.ones(4, 3).view(torch.float64)", "r = torch.ones(4, 3).t().view(torch.float64)", "r = torch.ones(4, 3).t().view(torch.int16)",
    "r = torch.ones(8)[1:].view(torch.float64)", "r = torch.ones(8)[1:7].view(torch.float64)", "r = torch.ones(3, 3)[:, :2].view(torch.float64)",
    "r = torch.ones(()).view(torch.float64)", "r = torch.ones(()).view(torch.int16)", "r = torch.ones(4, 0).view(torch.float64)",
    "r = torch.ones(3, 1).expand(3, 4).view(torch.int16)", "r = torch.ones(2, 4)[:1].as_strided((1, 4), (3, 1)).view(torch.int64)",
    "r = torch.ones(8).view(torch.complex64)[1:4].view(torch.complex128)",
    "r = torch.ones(3).imag", "r = torch.imag(torch.ones(3))", "torch.ones(3).imag = 2",
    "r = torch.view_as_real(torch.ones(3))", "r = torch.view_as_complex(torch.ones(3, 2, 3))", "r = torch.view_as_complex(torch.ones(3, 2, dtype=torch.int32))",
    "r = torch.view_as_complex(torch.ones(()))", "r = torch.view_as_complex(torch.ones(2, 2).t())", "r = torch.view_as_complex(torch.ones(3, 3)[:, :2])",
    "r = torch.view_as_complex(torch.ones(8)[1:7].view(3, 2))", "r = torch.view_as_complex(torch.ones(3, 2, dtype=torch.bfloat16))",
    "x = torch.ones(3, dtype=torch.complex64, requires_grad=True); x.imag = 3", "x = torch.ones(3, dtype=torch.complex64, requires_grad=True); torch.view_as_real(x).add_(1)",
])
def test_refusals(program): both(program)


# ---------------------------------------------------------------- aliasing
@pytest.mark.parametrize("program", [
    "x = torch.arange(4.); y = x.view(torch.int32); x.add_(1); r = [x, y, y._version]",
    "x = torch.arange(4.); y = x.view(torch.int32); y[1:] = 0; r = [x, y, x._version, y._version]",
    "x = torch.arange(4.) * 2; y = x.view(torch.int16); y[1::2] += 1; z = x.view(torch.uint8); z[:2] = 255; r = [x, y, z, x._version, z._version]",
    "x = torch.arange(3.); y = x[:2].view(torch.int64); y.fill_(0); r = [x, y]",
    "x = torch.arange(3.); y = x[:2].view(torch.int64); x[1] = 7; y.bitwise_xor_(1); r = [x, y, x._version]",
    "x = torch.zeros(4, dtype=torch.uint8); y = x.view(torch.float32); y.fill_(1.5); r = [x, y]",
    "x = torch.arange(12.).reshape(3, 4); y = x[:, 2:].view(torch.float64); y[1] = 0; x.mul_(2); r = [x, y]",
    "x = torch.arange(12.).reshape(3, 4).t(); y = x.view(torch.int32); y[0, 1] = 0; x[2] = 5; r = [x, y]",
    "c = torch.arange(3) * (1 + 2j); a, b = c.real, c.imag; a.mul_(2); b[1] = -7; r = [c, a, b, c._version, a._version]",
    "c = torch.arange(3) * (1 + 2j); c.real = 4; r = [c, c._version]",
    "c = torch.arange(3) * (1 + 2j); c.imag = torch.arange(3); r = [c, c._version]",
    "c = torch.arange(4).reshape(2, 2) * (1 + 2j); c.real = torch.tensor([5., 6.]); c[0].imag = 9; c.t()[1].real = -1; r = [c, c._version]",
    "c = torch.arange(3) * (1 + 2j); c.real += 1; c.imag *= 3; r = [c, c._version]",
    "x = torch.ones(3); x.real = 5; r = [x, x._version]",
    "c = torch.arange(3) * (1 + 2j); v = torch.view_as_real(c); v[1, 0] = 50; c[2] = 8j; v[0].fill_(3); r = [c, v]",
    "x = torch.arange(6.).reshape(3, 2); c = torch.view_as_complex(x); c.mul_(1j); x[0] = 9; r = [x, c, c._version]",
    "x = torch.arange(6.).reshape(3, 2); c = torch.view_as_complex(x); c.imag.neg_(); w = torch.view_as_real(c); w[2] = 0; r = [x, c, w, w.data_ptr() == x.data_ptr()]",
    "c = torch.arange(3) * (1 + 2j); d = c.real.view(torch.int32); d[1] = 0; r = [c, d]",
    "x = torch.arange(4.); y = x.detach().view(torch.int32); z = x.data.view(torch.int16); y[0] = 5; z[-1] = 0; r = [x, y, z]",
    "x = torch.arange(4.); y = x.view(torch.int32); s = [float(v) for v in x]; y.zero_(); r = [x, s, x.sum().item()]",
    "x = torch.arange(4.); y = x.view(torch.int32).clone(); y.zero_(); r = [x, y]",
    "x = torch.arange(4.); y = x.view(torch.int32); y.copy_(torch.tensor([1., 2., 3., 4.]).view(torch.int32)); r = [x, y]",
    "x = torch.arange(4.); y = x.view(torch.complex64); y.mul_(1j); y.real.copy_(y.imag); r = [x, y]",
    "x = torch.arange(4.); y = x.view(torch.int32); x.set_(torch.ones(4)); r = [x, y]",
    "x = torch.arange(4.); y = torch.empty(0, dtype=torch.int32).set_(x.untyped_storage(), 1, (2,), (1,)); y.fill_(0); r = [x, y]",
    "x = torch.zeros(4); torch.add(torch.ones(4), 1, out=x.view(torch.float32)); torch.ones(2, dtype=torch.complex64, out=x[:4].view(torch.complex64)); r = x",
    "c = torch.zeros(3, dtype=torch.complex64); torch.add(torch.ones(3), 1, out=c.real); r = c",
    "x = torch.arange(4.); y = x.view(torch.int32); del x; y.add_(0); r = y",
    "x = torch.arange(8.); parts = [p.view(torch.int32) for p in x.split(2)]; parts[1].zero_(); r = [x, parts]",
    "x = torch.arange(4.); y = x.view(torch.uint8); y.view(4, 4)[:, 3] = 0; y.reshape(2, 8)[0, :4] = 1; r = [x, y]",
    "x = torch.arange(4.); y = x.view(torch.int32); y.unsqueeze_(0); y.t_(); r = [x, y]",
    "x = torch.arange(4, dtype=torch.int32); y = x.view(torch.float32); z = y.view(torch.int16); x.add_(1 << 20); z.add_(1); y.abs_(); r = [x, y, z, x._version]",
])
def test_aliasing(program): both(program)


@pytest.mark.parametrize("write", ["x[5] = 1", "v.add_(1)", "x.view(torch.int32)[:10].add_(1)", "w.add_(1)", "c.real[:10].fill_(2)"])
def test_a_write_through_a_view_is_in_place(write):
    """No copy of the memory around it: neither the tensor nor the view that is written through holds on to the old content."""
    x = forno.arange(100_000.)
    c = forno.zeros(10, dtype=forno.complex64)
    v, w = x[:10], x.view(forno.int32)[:10]
    space = {"torch": forno, "x": x, "v": v, "w": w, "c": c}
    for _ in range(3):
        exec(write, space)
        flush()
    at = x.alias.store.node.buf.address, c.alias.store.node.buf.address if c.alias else 0
    exec(write, space)
    flush()
    assert (x.alias.store.node.buf.address, c.alias.store.node.buf.address if c.alias else 0) == at


def test_large_ready_memory():
    """Memory that lies ready is looked at, not copied, whatever is written later through either type."""
    for n in (10, 100_000):
        for lib in (torch, forno):
            x = lib.arange(n, dtype=lib.float32)
            float(x[3])
            y = x.view(lib.int32)
            assert y.data_ptr() == x.data_ptr()
            before = int(y[2])
            x.mul_(2)
            assert int(y[2]) != before and y.data_ptr() == x.data_ptr()
            y[5:].zero_()
            assert float(x.sum()) == 20.0


# ---------------------------------------------------------------- memory that others see
@pytest.mark.parametrize("program", [
    "x = torch.arange(4.); a = x.view(torch.int32).numpy(); x.add_(1); r = [a.copy(), a.dtype.name]",
    "x = torch.arange(4.); a = x.view(torch.int32).numpy(); a[1] = 0; r = [x, x.view(torch.int16)]",
    "x = torch.arange(4.); a = x.numpy(); y = x.view(torch.int32); a[1] = 9; s = y.clone(); a[2] = 7; y[3] = 0; r = [x, y, s, a.copy()]",
    "a = np.arange(4, dtype=np.float32); x = torch.from_numpy(a); y = x.view(torch.int16); y[0] = 5; a[3] = 1; r = [x, y, a.copy()]",
    "a = np.arange(4) * (1 + 2j); c = torch.from_numpy(a); c.real = 3; i = c.imag; a[0] = 9j; r = [c, i, a.copy(), c.real]",
    "a = np.arange(4) * (1 + 2j); c = torch.from_numpy(a); b = c.imag.numpy(); b[:] = 5; c[0] = 1; r = [a.copy(), b.copy(), b.strides]",
    "a = np.arange(8, dtype=np.float32); x = torch.from_numpy(a)[2:6]; y = x.view(torch.complex64); y.mul_(1j); r = [a.copy(), y]",
    "a = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]; x = torch.from_numpy(a); y = x.view(torch.int32); y[0, 1] = 0; r = [a.copy(), y]",
    "b = bytearray(range(16)); x = torch.frombuffer(b, dtype=torch.uint8); y = x.view(torch.int32); y[1] = 0; b[0] = 255; r = [bytes(b), x, y]",
    "b = bytearray(16); x = torch.frombuffer(b, dtype=torch.float32, offset=4); x.view(torch.int16)[1] = 256; r = [bytes(b), x]",
    "x = torch.arange(4.); y = torch.from_dlpack(x).view(torch.int32); y[0] = 1; r = [x, y]",
    "x = torch.arange(100000.); a = x.view(torch.int32).numpy(); x[5] = 0; y = x.view(torch.uint8); a[0] = 1; r = [a[:8].copy(), y[:4], x[5:6]]",
])
def test_memory_others_see(program): both(program)


@pytest.mark.parametrize("program", [
    "c = torch.arange(3) * (1 + 2j); d, e = copy.deepcopy([c, c.real]); e.zero_(); r = [c, d, e]",
    "x = torch.arange(4.); y, x2 = copy.deepcopy([x.view(torch.int16), x]); y[1] = 5; r = [x, y, x2]",
    "x = torch.arange(4.); r = [copy.copy(x.view(torch.int32)), pickle.loads(pickle.dumps(x.view(torch.int16)[2:])).clone(), pickle.loads(pickle.dumps((x * 1j).imag)).contiguous()]",
    "x = torch.arange(4.).view(torch.int32); f = io.BytesIO(); torch.save([x, x[1:]], f); f.seek(0); a, b = torch.load(f); b[0] = 7; r = [x, a, b]",
    "c = torch.arange(4) * 1j; f = io.BytesIO(); torch.save(c.imag, f); f.seek(0); r = torch.load(f)",
    "x = torch.arange(4.); r = x.is_set_to(x.view(torch.int32))",
    "x = torch.arange(4.).share_memory_(); y = x.view(torch.int32); y[0] = 1; x[1] = 7; r = [x, y, y.is_shared()]",
])
def test_copies_and_files(program): both(program)


def test_a_file_does_not_hold_one_memory_as_two_types():
    for lib in (torch, forno):
        c = lib.ones(3, dtype=lib.complex64)
        with pytest.raises(RuntimeError, match="view the same data as different types"): lib.save([c, c.real], io.BytesIO())


# ---------------------------------------------------------------- gradients
@pytest.mark.parametrize("program", [
    "x = torch.arange(3.) * (1 + 2j); x.requires_grad_(); (x.real ** 2 + 3 * x.imag).sum().backward(); r = x.grad",
    "x = torch.arange(3.) * (1 + 2j); x.requires_grad_(); v = torch.view_as_real(x); (v ** 3).sum().backward(); r = [x.grad, v]",
    "x = torch.arange(6.).reshape(3, 2).requires_grad_(); c = torch.view_as_complex(x); (c * c.conj() * (2 + 1j)).abs().sum().backward(); r = x.grad",
    "x = torch.arange(6.).reshape(3, 2).requires_grad_(); torch.view_as_real(torch.view_as_complex(x) * 1j)[1:].sum().backward(); r = x.grad",
    "x = (torch.arange(4.) * (1 + 2j)).reshape(2, 2).requires_grad_(); x.t()[1].imag.pow(2).sum().backward(); r = x.grad",
    "x = torch.arange(3.) * (1 + 2j); x.requires_grad_(); y = x * 2; a = y.real; a.mul_(a.detach() + 1); (y * y).imag.sum().backward(); r = [y, a, x.grad]",
    "x = torch.arange(3.) * (1 + 2j); x.requires_grad_(); w = torch.ones(3, requires_grad=True); y = x * 2; y.imag = w * 3; (y * y).abs().sum().backward(); r = [y, x.grad, w.grad]",
    "w = torch.ones(3, requires_grad=True); y = torch.zeros(3, dtype=torch.complex64); y.real = w * 3; y.imag[1:] = w[1:]; (y * (1 + 2j)).real.sum().backward(); r = [y, w.grad]",
    "w = torch.ones(3, requires_grad=True); y = torch.zeros(3, 2); torch.view_as_complex(y).mul_(2).add_(w); (y * y).sum().backward(); r = [y, w.grad]",
    "x = torch.arange(3.) * (1 + 2j); x.requires_grad_(); g, = torch.autograd.grad((x.real ** 3 * x.imag).sum(), x, create_graph=True); (g.real * g.imag).sum().backward(); r = [g, x.grad]",
    "x = torch.arange(1., 7).reshape(3, 2).requires_grad_(); z = torch.view_as_complex(x); g, = torch.autograd.grad((z ** 3).real.sum(), x, create_graph=True); (g ** 2).sum().backward(); r = x.grad",
    "x = torch.ones(3, requires_grad=True); y = x.view(torch.int32); r = [y.requires_grad, y.is_leaf, y.grad_fn]; y.add_(1); r += [y, x.detach(), x._version, x.requires_grad, x.is_leaf]",
    "x = torch.ones(4, requires_grad=True); z = x * 1; y = z.view(torch.complex64); a = y.requires_grad; y.mul_(2); z.sum().backward(); r = [a, z, y, x.grad]",
    "x = torch.ones(4, requires_grad=True); y = x.view(torch.float32); r = [y.requires_grad, y is x, y.grad_fn]",
    "x = torch.ones(4, dtype=torch.complex64); y = torch.view_as_real(x); y.requires_grad_(); (y * 3).sum().backward(); r = [x.requires_grad, y.is_leaf, y.grad]",
    "x = torch.ones(4, dtype=torch.complex64); y = x.imag; y.requires_grad_(); (y[1:] * 3).sum().backward(); r = [x.requires_grad, y.is_leaf, y.grad]",
    "x = torch.arange(3.) * (1 + 2j); x.requires_grad_(); seen = []; y = x.real; y.register_hook(lambda g: seen.append(g.clone())); (y * 5).sum().backward(); r = [seen, x.grad]",
    "x = torch.arange(3.) * (1 + 2j); x.requires_grad_(); y = torch.view_as_real(x); y.retain_grad(); (y * 5).sum().backward(); r = [y.grad, x.grad]",
    "x = torch.ones(3, dtype=torch.complex64, requires_grad=True)\nwith torch.no_grad(): x.real = 5; x.imag.sub_(1)\n(x * x).real.sum().backward(); r = [x, x.grad, x.is_leaf, x._version]",
    "x = torch.ones(2, requires_grad=True); w = x * 2; y = w.detach().view(torch.int32); y.add_(0); w.sum().backward(); r = x.grad",
])
def test_gradients(program): both(program)


def test_names_of_vertices():
    for lib in (torch, forno):
        c, x = lib.ones(3, dtype=lib.complex64, requires_grad=True), lib.ones(3, 2, requires_grad=True)
        made = c.real, c.imag, lib.view_as_real(c), lib.view_as_complex(x)
        assert [type(y.grad_fn).__name__ for y in made] == ["SelectBackward0", "SelectBackward0", "ViewAsRealBackward0", "ViewAsComplexBackward0"]


def test_gradcheck():
    for f in (lambda c: c.real * c.imag, lambda c: forno.view_as_real(c).prod(-1), lambda c: forno.view_as_complex(forno.view_as_real(c) * 2) * c):
        x = forno.tensor([1 + 2j, -0.5 + 1j, 0.3 - 2j], dtype=forno.complex128, requires_grad=True)
        assert forno.autograd.gradcheck(f, (x,)) and forno.autograd.gradgradcheck(f, (x,))


# ---------------------------------------------------------------- in kernels
@pytest.mark.parametrize("program", [
    "x = torch.arange(12.).reshape(3, 4); r = [(x.view(torch.int32) >> 20) + 1, (x * 3).view(torch.int32) & 255, x.view(torch.int32).sum(1)]",
    "x = torch.arange(1., 9); y = (x.view(torch.int32) + (1 << 23)).view(torch.float32); r = [y, y / x]",
    "x = torch.arange(64.).reshape(8, 8); c = (x @ x).view(torch.complex64); r = [c * 2, c.real, (c @ c.t()).imag, c.abs()]",
    "x = torch.arange(16.).reshape(4, 4); y = x + 1; z = y.view(torch.int32); y2 = y * 2; r = [z, y2, y, z.float() + y, (z ^ z.t()).view(torch.int16)]",
    "c = torch.arange(6.).reshape(2, 3) * (1 + 1j); r = [(c * c).real, (c * 2).imag.sum(), torch.view_as_real(c * 1j).flatten(1), torch.view_as_real(c + c).sum(-1), (c * c).imag.t()]",
    "x = torch.arange(24.).reshape(2, 3, 4); f = torch.exp(torch.arange(2.) * 1j); c = torch.view_as_complex(x.reshape(2, 3, 2, 2)) * f; r = torch.view_as_real(c).flatten(2)",
    "x = torch.arange(8.); y = (x * 2).view(torch.float64); z = (x * 2)[2:].view(torch.float64); w = x[1:].clone()[1:].view(torch.int64); r = [y, z, w]",
    "x = torch.arange(9.); y = x[1:] * 1; r = [y.view(torch.int64), y[2:].view(torch.int64), y.clone()[::2].contiguous().view(torch.int64)]",
    "x = torch.full((4,), 1.5); r = [x.view(torch.int32), torch.zeros(4).view(torch.int64), torch.arange(4).view(torch.float64), torch.ones(4).expand(3, 4).view(torch.int32)]",
    "x = torch.tensor([3, 1, 2], dtype=torch.int32); y = x.view(torch.float32); r = [x.sort()[0].view(torch.float32), y.argsort(), x[x.view(torch.int32) > 1].view(torch.int16)]",
    "x = torch.fft.fft(torch.arange(8.)); r = [x.real, x.imag, torch.view_as_real(x), x.real + x.imag]",
    "x = torch.arange(6.); y = x.view(torch.int64); z = y.clone(); x.add_(1); r = [y - z, x.view(torch.int64) - z]",
])
def test_in_kernels(program): both(program)


def test_a_view_of_bytes_makes_no_kernel():
    """Reading other memory as another type, and writing through it, costs what an ordinary view costs."""
    x = forno.arange(1000.)
    float(x[0])
    made = trace.counts["kernels_built"]
    y = x.view(forno.int32)
    z = x.view(forno.complex64).imag
    assert y.data_ptr() == x.data_ptr() and z.stride() == (2,)
    flush()
    assert trace.counts["kernels_built"] - made <= 1


@pytest.mark.parametrize("program", [
    "v, x = torch.func.vmap, torch.arange(12.).reshape(3, 4); r = [v(lambda a: a.view(torch.int32) + 1)(x), v(lambda a: a.view(torch.int64))(x), v(lambda a: a[1:].view(torch.int16) + 0)(x)]",
    "v, c = torch.func.vmap, torch.arange(6.).reshape(2, 3) * (1 + 2j); r = [v(lambda a: a.real * 2)(c), v(lambda a: a.imag.sum(), 1)(c), v(lambda a: torch.view_as_real(a * 1).sum(-1))(c)]",
    "c = torch.arange(6.).reshape(2, 3) * (1 + 2j); r = [torch.func.grad(lambda a: (a.real ** 2).sum())(c), torch.func.jvp(lambda a: a.real * a.imag, (c,), (c,))[1]]",
    "c = torch.arange(6.).reshape(2, 3) * (1 + 2j); r = torch.func.vmap(torch.func.grad(lambda a: (a.imag * a.real).sum()))(c)",
])
def test_function_transforms(program): both(program)


# ---------------------------------------------------------------- random programs
TYPES = ("uint8", "int16", "int32", "int64", "float32", "float64", "complex64", "complex128")


class Program:
    """The same random statements in both libraries, over tensors that all see one memory as various types."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        n = self.r.choice((1, 3, 4, 7, 8, 16, 24, 48))
        raw = np.frombuffer(self.r.randbytes(n * 4), np.int32) & 0x3FFF3FFF         # small exponents: no NaN, whose bits need not survive arithmetic
        owner = self.r.choice(TYPES[:6])
        a = raw.copy().view(owner) if (n * 4) % np.dtype(owner).itemsize == 0 else raw.copy()
        self.kept = a if self.r.random() < 0.2 else None
        self.pairs = [(torch.from_numpy(a.copy()), forno.from_numpy(self.kept) if self.kept is not None else forno.tensor(a))]
        self.log = [f"{owner}[{n}]"]

    def both(self, what, f):
        """f(tensor, lib) in both; errors must agree in type and text."""
        i = self.r.randrange(len(self.pairs))
        self.log.append(f"{i}: {what}")
        out = []
        for t, lib in zip(self.pairs[i], (torch, forno)):
            try: out.append(f(t, lib))
            except RuntimeError as error: out.append(error)
        a, b = out
        assert isinstance(a, RuntimeError) == isinstance(b, RuntimeError), (self.log, a, b)
        if isinstance(a, RuntimeError): assert str(a) == str(b) or "view size is not" in str(a), (self.log, a, b)
        elif a is not None and a.numel() == b.numel(): self.pairs.append((a, b))
        return i

    def step(self):
        r = self.r
        kind = r.randrange(9)
        if kind <= 2:
            t = r.choice(TYPES)
            self.both(f"view({t})", lambda x, lib: x.view(getattr(lib, t)))
        elif kind == 3:
            part = r.choice(("real", "imag", "view_as_real", "view_as_complex"))
            self.both(part, lambda x, lib: getattr(lib, part)(x))
        elif kind == 4:
            lo, step = r.randrange(3), r.choice((1, 1, 2))
            self.both(f"[{lo}::{step}]", lambda x, lib: x[lo::step] if x.dim() else x.unsqueeze(0))
        elif kind == 5:
            k = r.choice((1, 2, 4))
            self.both(f"reshaped {k}", lambda x, lib: x.view(-1, k) if x.dim() == 1 and x.numel() else x.t() if x.dim() == 2 else x[...])
        elif kind == 6:
            v = r.randrange(1, 100)
            self.both(f"fill_({v})", lambda x, lib: (x.fill_(v), None)[1])
        elif kind == 7:
            at, v = r.randrange(-3, 3), r.randrange(100)
            def put(x, lib):
                if x.dim() and x.shape[0] > 3: x[at] = v
            self.both(f"[{at}] = {v}", put)
        else:
            bits = r.randrange(1, 16)
            def change(x, lib):
                if not x.is_floating_point() and not x.is_complex(): x.bitwise_xor_(bits)
                elif x.dim(): x.copy_(lib.roll(x, 1, 0))
            self.both(f"^= {bits}", change)
        if r.random() < 0.15:
            i = r.randrange(len(self.pairs))
            self.log.append(f"read {i}")
            self.compare(*self.pairs[i])

    def compare(self, a, b):
        assert (str(a.dtype), tuple(a.shape), a.storage_offset(), a._version) == (str(b.dtype), tuple(b.shape), b.storage_offset(), b._version), self.log
        assert all(s == t for s, t, n in zip(a.stride(), b.stride(), a.shape) if n > 1), self.log
        x, y = a.numpy(), b.numpy()
        assert np.array_equal(x.copy().view("u1") if x.ndim else x, y.copy().view("u1") if y.ndim else y), (self.log, x, y)

    def run(self, steps=14):
        for _ in range(steps): self.step()
        for a, b in self.pairs: self.compare(a, b)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10 ** 9))
def test_random_programs(seed): Program(seed).run()
