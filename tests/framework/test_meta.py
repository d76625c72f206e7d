"""Device "meta": tensors without data. Shapes, types and strides of what is computed from them are PyTorch's, and asking for a value is its error."""
import copy
import io
import pickle

import pytest
import torch

import forno

LIBRARIES = (torch, forno)
RESULTS = """m; m + 1; m + c0; c0 + m; m * m; m @ m.t(); m.sum(); m.sum(1, keepdim=True); m.mean(0); m.t(); m.t() + 1; m.t().contiguous(); m[0]; m[:, 1:]; m[None]
m[torch.tensor([0])]; m[torch.tensor([0], device="meta")]; torch.cat([m, m]); torch.stack([m, m]); torch.where(m > 0, m, c0); torch.zeros_like(m); torch.zeros_like(m.t()); torch.rand_like(m)
torch.empty_like(c, device="meta"); torch.randn_like(m, device="cpu"); m.new_zeros(3); m.new_tensor([1.]); m.new_empty(2); m.new_full((2,), 3); c.new_empty(2, device="meta"); m.new_ones(2, device="cpu")
torch.tensor([1., 2.], device="meta"); torch.as_tensor([1], device="meta"); torch.arange(4, device="meta"); torch.arange(1., 2., 0.3, device="meta"); torch.eye(3, device="meta"); torch.linspace(0, 1, 3, device="meta")
torch.full((2,), 3, device="meta"); torch.full((2,), 1.5, device="meta"); torch.randn(3, device="meta"); torch.randint(0, 3, (2,), device="meta"); torch.randperm(4, device="meta"); torch.rand(2, 3, device="meta", dtype=torch.float64)
torch.empty(10**14, device="meta"); torch.zeros(10**13, device="meta") + 1; torch.nn.functional.dropout(m); torch.nn.functional.dropout(m, training=False); torch.bernoulli(m); torch.multinomial(m, 2); torch.normal(m, 1.0)
torch.nn.functional.one_hot(torch.zeros(2, dtype=torch.long, device="meta"), 3); m.detach(); m.data; m.clone(); m.view(6); m.view(torch.int32); m.double(); m.to(torch.float16); m.to("meta"); c.to("meta"); c.t().to("meta")
c.to(m); c.to(device="meta", dtype=torch.int32); m.max(1)[1]; m.sort()[0]; m.topk(2)[0]; torch.linalg.inv(torch.empty(3, 3, device="meta")).shape; torch.linalg.svd(torch.empty(3, 4, device="meta"))[0].shape; torch.fft.fft(m); torch.cumsum(m, 0)
m.masked_fill(m > 0, 1); m.index_select(0, torch.tensor([0])); m.gather(0, torch.zeros(1, 1, dtype=torch.long)); m.any(); m.isnan(); m.argmax(1); torch.einsum("ij,kj->ik", m, m); m.softmax(1); m.expand(4, 2, 3)
torch.nn.functional.scaled_dot_product_attention(m4, m4, m4); torch.nn.functional.conv2d(m4, torch.empty(5, 2, 3, 3, device="meta"), padding=1); torch.nn.functional.max_pool2d(m4, 2); torch.nn.functional.interpolate(m4, scale_factor=2)
torch.nn.functional.layer_norm(m, (3,)); torch.nn.functional.embedding(torch.tensor([0]), m); torch.nn.functional.cross_entropy(m, torch.zeros(2, dtype=torch.long, device="meta")); torch.nn.functional.mse_loss(m, m); torch.tril(m); m.norm()
torch.nn.functional.pad(m, (1, 1)); m.std(); m.var(0); m.repeat(2, 2); m.flip(0); m.roll(1); m.unfold(1, 2, 1); torch.nn.functional.gelu(m); torch.outer(m[0], m[0]); torch.cdist(m, m); m.quantile(0.5); m.median(); m.prod(); m.logsumexp(0)
m.to(memory_format=torch.contiguous_format); torch.empty_strided((2, 3), (1, 2), device="meta"); torch.nn.Parameter(m); torch.empty(3, device="meta:0"); m.fill_(2); m.zero_(); m.copy_(c); m.normal_(); m.uniform_(-1, 1); m.add_(1); m.mul_(m)
torch.empty((), device="meta").max(0)[1]; torch.linalg.inv_ex(m4[0, 0])[0].shape; torch.linalg.cholesky_ex(m4[0, 0])[1]; torch.matrix_exp(m4); m.masked_scatter(m > 0, m)
torch.repeat_interleave(m, torch.ones(2, dtype=torch.long, device="meta"), 0, output_size=5); m.random_(); m.bernoulli_(); m[0].fill_(1); m.t_(); torch.nn.init.kaiming_uniform_(m); torch.nn.init.orthogonal_(m) if 0 else m; torch.FloatTensor([1.]).to("meta"); m.tolist; m.bool(); m.cfloat().real; torch.triu(m); m.diagonal(); m.int() // 2"""


def told(x):
    return x if not hasattr(x, "dtype") else (tuple(x.shape), str(x.dtype), x.stride(), str(x.device), x.is_meta, x.requires_grad, x.storage_offset(), x.is_contiguous())


def result(lib, text):
    names = {"m": lib.empty(2, 3, device="meta"), "m4": lib.empty(1, 2, 4, 4, device="meta"), "c": lib.ones(2, 3), "c0": lib.tensor(2.0), "torch": lib}
    return told(eval(text, names))


@pytest.mark.parametrize("text", [t.strip() for t in RESULTS.replace("\n", ";").split(";") if "tolist" not in t])
def test_what_is_known_of_a_result(text): assert result(torch, text) == result(forno, text)


ERRORS = """m + c; c + m; torch.rand(2, 3) + m; torch.cat([m, c]); torch.where(c > 0, m, m); m.item(); m[0, 0].item(); bool(m[0, 0]); float(m[0, 0]); int(m[0, 0]); m.tolist(); m.numpy(); m.cpu(); m.to("cpu"); m.to(c)
m.nonzero(); m[m > 0]; m.unique(); c.copy_(m); c[0].copy_(m[0]); m.pin_memory(); m.backward(); setattr(c, "data", m); setattr(m, "data", c); m.cuda(); torch.nn.Linear(2, 2, device="meta").to("cpu"); torch.masked_select(m, m > 0)
torch.nn.Linear(3, 4, device="meta")(c); torch.addmm(m[0], c, torch.empty(3, 3, device="meta")); torch.nn.functional.layer_norm(c, (3,), m[0], m[0]); torch.nn.functional.batch_norm(c, m[0], m[0])
torch.nn.functional.mse_loss(m, c); torch.nn.functional.linear(torch.ones(2, 2, 3), m, m[:, 0])"""


@pytest.mark.parametrize("text", [t.strip() for t in ERRORS.replace("\n", ";").split(";")])
def test_values_are_refused(text):
    found = []
    for lib in LIBRARIES:
        with pytest.raises(Exception) as e: result(lib, text)
        found.append(e)
    assert found[0].type is found[1].type or issubclass(found[1].type, found[0].type)
    if "register_meta" not in str(found[0].value) and "no fake impl" not in str(found[0].value): assert str(found[0].value) == str(found[1].value)


def test_printing():
    for make in ("torch.empty(2, 3, device='meta')", "torch.empty(0, device='meta')", "torch.zeros((), device='meta', dtype=torch.int32)", "torch.nn.Parameter(torch.empty(2, device='meta'))",
                 "torch.empty(2, device='meta', requires_grad=True) * 2", "torch.arange(3, device='meta')"):
        assert repr(eval(make, {"torch": torch})) == repr(eval(make, {"torch": forno})), make


def test_a_window_of_both():
    """What runs and what doesn't are recorded side by side; nothing that runs depends on the other."""
    x, m = forno.ones(3, requires_grad=True), forno.empty(3, device="meta", requires_grad=True)
    for _ in range(3):
        x.grad = m.grad = None
        y, n = (x * 2).exp(), (m * 2).exp()
        a, b = y.sum(), n.sum()
        a.backward()
        b.backward()
        assert m.grad.is_meta and b.is_meta and not x.grad.is_meta
        assert x.grad.tolist() == pytest.approx([2 * 2.718281828 ** 2] * 3)
    y, n = (x * 3).exp(), (m * 3).exp()
    y.tolist()
    n.sum().backward(retain_graph=True)        # its window is closed
    z = n * 2
    y.tolist()
    assert z.is_meta and n.is_meta and z.grad_fn is not None and forno.autograd.grad(z.sum(), m)[0].is_meta


def test_after_an_error_in_the_window():
    m = forno.empty(3, device="meta")
    n, bad = m + 1, forno.ones(3)[forno.tensor([0, 7] * 40).clone() + 0]
    with pytest.raises(IndexError): bad.tolist()
    assert (n + m).is_meta


def test_default_device():
    for lib in LIBRARIES:
        with lib.device("meta"):
            made = [lib.empty(2), lib.ones(3), lib.tensor([1.0]), lib.arange(3), lib.rand(2), lib.zeros(2, device="cpu"), lib.nn.Linear(2, 3).weight, lib.get_default_device()]
            with lib.device("cpu"): made.append(lib.ones(1))
            c = lib.ones(2, 2, device="cpu")
            made += [lib.ones_like(c), lib.tril(c) @ c, c.quantile(0.5), lib.nn.functional.cross_entropy(c, lib.tensor([0, 1], device="cpu"))]
        made.append(lib.ones(1))
        assert [str(getattr(x, "device", x)) for x in made] == ["meta"] * 5 + ["cpu"] + ["meta"] * 2 + ["cpu"] * 6
        lib.set_default_device("meta")
        try: assert lib.ones(2).is_meta and str(lib.get_default_device()) == "meta"
        finally: lib.set_default_device(None)
        assert not lib.ones(2).is_meta


def network(lib): return lib.nn.Sequential(lib.nn.Conv2d(3, 4, 3, padding=1), lib.nn.BatchNorm2d(4), lib.nn.ReLU(), lib.nn.Flatten(), lib.nn.Dropout(), lib.nn.Linear(256, 5))


def test_modules_without_data():
    """Made without memory, shapes asked for, then given memory or a checkpoint's tensors."""
    for lib in LIBRARIES:
        state = lib.random.get_rng_state()
        with lib.device("meta"):
            net = network(lib)
            encoder = lib.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            assert encoder(lib.empty(2, 5, 8)).shape == (2, 5, 8) and lib.nn.LSTM(3, 4)(lib.empty(2, 1, 3))[0].shape == (2, 1, 4)
        assert lib.equal(state, lib.random.get_rng_state())              # no random numbers were drawn
        assert all(t.is_meta for t in (*net.parameters(), *net.buffers()))
        out = net(lib.empty(2, 3, 8, 8, device="meta"))
        assert out.shape == (2, 5) and out.is_meta
        out.sum().backward()
        assert net[0].weight.grad.is_meta
        opt = lib.optim.SGD(net.parameters(), 0.1)
        opt.step()
        assert net[0].weight.is_meta
        source = network(lib)
        with pytest.warns(UserWarning, match="no-op"): net.load_state_dict(source.state_dict())
        assert net[0].weight.is_meta
        net.load_state_dict(source.state_dict(), assign=True)
        assert not any(t.is_meta for t in (*net.parameters(), *net.buffers())) and isinstance(net[0].weight, lib.nn.Parameter) and lib.equal(net[5].bias, source[5].bias)
        assert net.eval()(lib.ones(1, 3, 8, 8)).tolist() == source.eval()(lib.ones(1, 3, 8, 8)).tolist()
        with pytest.raises(NotImplementedError, match="to_empty"): lib.nn.Linear(2, 2, device="meta").to("cpu")
        empty = lib.nn.Linear(2, 2, device="meta").to_empty(device="cpu")
        assert str(empty.weight.device) == "cpu" and empty.weight.requires_grad and empty(lib.ones(1, 2)).shape == (1, 2)
        moved = lib.nn.Linear(2, 2)
        before = moved.weight
        moved.to("meta")
        assert moved.weight.is_meta and moved.weight is not before and isinstance(moved.weight, lib.nn.Parameter) and not before.is_meta


def test_files_and_copies():
    for lib in LIBRARIES:
        m = lib.empty(3, 2, device="meta").t()
        file = io.BytesIO()
        lib.save({"m": m, "p": lib.nn.Parameter(m)}, file)
        for other in LIBRARIES:
            file.seek(0)
            back = other.load(file)
            assert told(back["m"]) == told(m) and back["p"].is_meta and back["p"].requires_grad
        assert copy.deepcopy(m).is_meta and copy.deepcopy(lib.nn.Linear(2, 2, device="meta")).weight.is_meta and pickle.loads(pickle.dumps(m)).is_meta
        file = io.BytesIO()
        lib.save(lib.ones(2, 3).t(), file)
        file.seek(0)
        got = lib.load(file, map_location="meta")
        assert told(got) == ((3, 2), "torch.float32", (1, 3), "meta", True, False, 0, False)


def test_gradients_and_views():
    for lib in LIBRARIES:
        m = lib.empty(2, 3, device="meta", requires_grad=True)
        g, = lib.autograd.grad((m[0] * 2).sum(), m)
        assert g.is_meta and g.shape == (2, 3)
        g, = lib.autograd.grad((m ** 2).sum(), m, create_graph=True)
        assert g.is_meta and g.requires_grad
        x = lib.ones(3, requires_grad=True)
        y = x.to("meta")
        assert y.is_meta and y.requires_grad and not x.is_meta
        v = m.detach().view(6)[1:]
        v.add_(1)
        v[0] = 3
        v[:2] = lib.ones(2)
        assert v.is_meta and v._version == 3
