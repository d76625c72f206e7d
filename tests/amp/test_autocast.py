"""autocast on the CPU: the types of results, compared with PyTorch's, and what a block leaves alone."""
import threading

import numpy as np
import pytest
import torch
import torch.utils.checkpoint

import forno

LIBS = (torch, forno)
# x (4, 5) and i (3, 4, 5) are float32, h is x in bfloat16; a few forms each of every function on autocast's lists that OpInfo-like samples don't reach otherwise
NARROW = """
x @ x.t(); h @ x.t(); x.mm(x.t()); t.matmul(x, x[0]); t.matmul(x[0], x[0]); t.bmm(i, i.mT); t.addmm(x[:, :4], x, x.t()); t.addbmm(x[:, :4], i, i.mT); t.baddbmm(i[:, :, :4], i, i.mT)
t.linalg.vecdot(x, x); F.linear(x, x, x[:, 0]); F.linear(i, x); t.einsum('ij,kj->ik', x, x); t.einsum('ij,ij->ij', x, x); t.tensordot(x, x, ([1], [1])); t.tensordot(x, x, 2)
t.inner(x, x); t.inner(x[0], x[0]); t.chain_matmul(x, x.t(), x); t.linalg.multi_dot([x, x.t(), x]); t.matrix_power(x[:, :4], 3); x.cov(); t.linalg.pinv(x); t.pinverse(x)
t.mv(x, x[0]); t.dot(x[0], x[0]); t.addmv(x[:, 0], x, x[0]); t.outer(x[0], x[0]); t.addr(x, x[:, 0], x[0]); F.prelu(x, x[0, :1]); F.bilinear(x, x, i[:, :, :, None].repeat(1, 2, 1, 5)[:, :5])
F.conv1d(i, i[:, :, :2]); F.conv2d(i[None], i[None, :, :2, :2]); F.conv3d(i[None, None], i[None, None, :2, :2, :2]); F.conv_transpose1d(i, i[:4, :, :2].mT[:, :4].repeat(1, 2, 1)[:4, :4])
F.conv_transpose2d(i[None], i[:, None]); F.conv_transpose3d(i[None, None], i[None, None]); F.conv_tbc(i, i[:2, :4, :4].repeat(1, 2, 1)[:, :5], x[0, :4])
F.scaled_dot_product_attention(i, i, i); F.multi_head_attention_forward(i[:, :, :4], i[:, :, :4], i[:, :, :4], 4, 2, x.new_ones(12, 4), None, None, None, False, 0.0, x.new_ones(4, 4), None)
""".replace("\n", ";")
FLOAT32 = """
F.avg_pool3d(i.to(h)[None], 2); F.adaptive_avg_pool3d(i.to(h)[None], 1); F.max_pool3d(i.to(h)[None], 2); F.adaptive_max_pool3d(i.to(h)[None], 1)
F.max_pool3d(i.to(h)[None], 2, return_indices=True); F.max_unpool2d(*F.max_pool2d(i.to(h), 2, return_indices=True), 2, output_size=(4, 5)); F.fractional_max_pool2d(i.to(h), 2, (2, 2))
F.grid_sample(i.to(h)[None], t.zeros(1, 2, 2, 2)); F.pad(h[None], (1, 1), 'reflect'); F.pad(h[None], (1, 1), 'replicate'); F.pad(h[None], (1, 1), 'circular'); F.pad(h, (1, 1))
F.pad(i.to(h)[None], (1, 1, 1, 1), 'reflect'); F.pad(i.to(h)[None, None], (1, 1, 1, 1, 1, 1), 'replicate'); F.pad(i.to(h)[None, None], (1, 1, 1, 1, 1, 1), 'reflect')
F.binary_cross_entropy(h.sigmoid(), x.sigmoid()); F.binary_cross_entropy_with_logits(h, h); F.cosine_embedding_loss(h, h, t.ones(4)); F.cross_entropy(h, t.zeros(4, dtype=t.long))
F.nll_loss(h, t.zeros(4, dtype=t.long)); F.ctc_loss(i.to(h).log_softmax(2), t.ones(4, 2, dtype=t.long), t.full((4,), 3), t.full((4,), 2)); F.hinge_embedding_loss(h, t.ones(4, 5)); F.huber_loss(h, h)
F.kl_div(h, h); F.l1_loss(h, h); F.margin_ranking_loss(h, h, h); F.mse_loss(h, h); F.mse_loss(h, x); F.multi_margin_loss(h, t.zeros(4, dtype=t.long)); F.poisson_nll_loss(h, h)
F.multilabel_margin_loss(h, t.zeros(4, 5, dtype=t.long)); F.smooth_l1_loss(h, h); F.soft_margin_loss(h, h.sign()); F.triplet_margin_loss(h, h, h); F.multilabel_soft_margin_loss(h, h.sigmoid())
F.gaussian_nll_loss(h, h, h.exp()); F.cosine_similarity(h, h); t.polar(h, h); h.prod(); t.prod(h, 1); t.quantile(h, 0.5); h.nanquantile(0.5); t.cdist(h, h); F.pdist(x); h.trace(); t.view_as_complex(h[:, :2].contiguous())
t.stft(t.ones(64).to(h), 8, window=t.ones(8), return_complex=True); t.fft.fft(h); t.fft.rfft2(h); t.fft.irfftn(h.to(t.complex64)); t.linalg.inv(h[:, :4]); h[:, :4].inverse(); t.linalg.svd(h); t.svd(h); t.linalg.qr(h); t.linalg.eigvalsh(h[:, :4])
t.linalg.cholesky(t.eye(3).to(h)); t.linalg.solve(t.eye(4).to(h), h); t.linalg.lstsq(t.eye(4).to(h), h)[0]; t.linalg.cond(x); t.linalg.matrix_rank(h); t.linalg.svdvals(h); t.linalg.eig(h[:, :4]); t.linalg.norm(x, 2); t.det(x[:, :4])
t.linalg.householder_product(h, h[0, :4]); t.linalg.tensorinv(t.eye(4).to(h).reshape(2, 2, 4)); t.geqrf(h); t.cholesky_inverse(t.eye(3).to(h)); t.triangular_solve(h, t.eye(4).to(h))[0]
""".replace("\n", ";")
WIDEST = """
t.cat([h, x]); t.cat([h, h]); t.cat([x.double(), x]); t.cat([x.double(), h]); t.stack([x, h]); t.stack([h, h]); t.concat((h, x), 1); x.index_copy(0, t.tensor([1]), h[:1]); t.cat([h.half(), h]); t.cat([h.half(), x])
x + h; h + h; h.sum(); h.exp(); x.softmax(0); h.log_softmax(0); F.layer_norm(h, (5,), x[0], x[0]); F.batch_norm(h, x[0], x[0].abs(), x[0], x[0], True); F.group_norm(i.to(h), 2, x[:, 0], x[:, 0]); F.gelu(h)
x.double() @ x.double().t(); x.int() @ x.int().t(); x.to(t.complex64) @ x.to(t.complex64).t(); t.mm(x, x.t(), out=t.empty(4, 4)); t.zeros(4, 4).addmm_(x, x.t()); x.half() @ x.t()
""".replace("\n", ";")


def names(lib):
    rng = np.random.default_rng(3)
    x, i = (lib.tensor(rng.standard_normal(s).astype("float32")) for s in ((4, 5), (3, 4, 5)))
    return dict(t=lib, F=lib.nn.functional, x=x, i=i, h=x.to(lib.bfloat16))


def kinds(r):
    if hasattr(r, "dtype"): return [str(r.dtype)]
    return [k for y in r for k in kinds(y)]


def expressions(text): return [e.strip() for e in text.split(";") if e.strip()]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("listed", [NARROW, FLOAT32, WIDEST], ids=["narrow", "float32", "widest"])
def test_types_of_results(listed, dtype):
    wrong = []
    for e in expressions(listed):
        got = []
        for lib in LIBS:
            with lib.autocast("cpu", dtype=getattr(lib, dtype)):
                try: got.append(kinds(eval(e, names(lib))))
                except RuntimeError: got.append("RuntimeError")
        if got[0] != got[1]: wrong.append((e, *got))
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("layer", ["LSTM(5, 6)", "LSTM(5, 6, proj_size=3)", "GRU(5, 6, bidirectional=True)", "RNN(5, 6, 2)", "LSTMCell(5, 6)", "GRUCell(5, 6)", "Linear(5, 6)",
                                   "TransformerEncoderLayer(5, 1, 8)", "Conv1d(4, 2, 3)", "LayerNorm(5)"])
def test_types_of_layers(layer):
    got = []
    for lib in LIBS:
        m = eval(f"nn.{layer}", dict(nn=lib.nn))
        with lib.autocast("cpu"): r = m(lib.ones(3, 5) if "Cell" in layer else lib.ones(3, 4, 5))
        got.append(kinds(r))
        sum(y.float().sum() for y in (r if isinstance(r, tuple) else (r,)) if isinstance(y, lib.Tensor)).backward()
        assert {str(p.grad.dtype) for p in m.parameters()} == {"torch.float32"}
    assert got[0] == got[1]


def narrow(lib, x): return (x @ x).dtype


def test_blocks_nest_and_leave():
    for lib in LIBS:
        x = lib.ones(2, 2)
        block = lib.autocast("cpu", dtype=lib.float16)
        with lib.autocast("cpu"):
            assert narrow(lib, x) is lib.bfloat16 and lib.is_autocast_enabled("cpu") and lib.is_autocast_cpu_enabled() and not lib.is_autocast_enabled()
            with lib.autocast("cpu", enabled=False): assert narrow(lib, x) is lib.float32 and not lib.is_autocast_enabled("cpu")
            with block: assert narrow(lib, x) is lib.float16 and lib.get_autocast_dtype("cpu") is lib.float16
            assert narrow(lib, x) is lib.bfloat16 and lib.get_autocast_cpu_dtype() is lib.bfloat16
            with pytest.raises(KeyError), lib.autocast("cpu", dtype=lib.float16, cache_enabled=False):
                assert not lib.is_autocast_cache_enabled()
                raise KeyError
            assert narrow(lib, x) is lib.bfloat16 and lib.is_autocast_cache_enabled()
        assert narrow(lib, x) is lib.float32


def test_switches():
    for lib in LIBS:
        lib.set_autocast_enabled("cpu", True)
        try:
            assert narrow(lib, lib.ones(2, 2)) is lib.bfloat16
            lib.set_autocast_dtype("cpu", lib.float16)
            assert narrow(lib, lib.ones(2, 2)) is lib.float16
        finally:
            lib.set_autocast_dtype("cpu", lib.bfloat16)
            lib.set_autocast_enabled("cpu", False)
        assert narrow(lib, lib.ones(2, 2)) is lib.float32
        with pytest.warns(UserWarning, match="only supports dtypes of torch.bfloat16, torch.float16"), lib.autocast("cpu", dtype=lib.float64): assert narrow(lib, lib.ones(2, 2)) is lib.float32


def test_decorator():
    for lib in LIBS:
        @lib.autocast("cpu")
        def inner(x): return narrow(lib, x)
        assert inner(lib.ones(2, 2)) is lib.bfloat16 and inner.__name__ == "inner" and narrow(lib, lib.ones(2, 2)) is lib.float32
        with pytest.raises(TypeError, match="requires a callable"): lib.autocast("cpu")(3)


def test_a_block_may_be_entered_again():
    """PyTorch's forgets what was before the first time."""
    block = forno.autocast("cpu")

    @block
    def inner(depth=2): return inner(depth - 1) if depth else narrow(forno, forno.ones(2, 2))
    with block, block: assert inner() is forno.bfloat16
    assert narrow(forno, forno.ones(2, 2)) is forno.float32 and inner() is forno.bfloat16


def test_each_thread_has_its_own():
    seen = []
    with forno.autocast("cpu"):
        t = threading.Thread(target=lambda: seen.append(narrow(forno, forno.ones(2, 2))))
        t.start()
        t.join()
    assert seen == [forno.float32]


def test_repeated_calls_see_the_mode():
    """A call that is said again from memory is the call of its block."""
    x, w = forno.ones(3, 4), forno.ones(5, 4)
    F = forno.nn.functional

    def step(on):
        with forno.autocast("cpu", enabled=on): y = F.linear(x, w)
        z = F.linear(x, w)
        y.sum().item(), z.sum().item()
        return y.dtype, z.dtype
    for on in (True, True, True, True, False, False, False, True): assert step(on) == (forno.bfloat16 if on else forno.float32, forno.float32)
    with forno.autocast("cpu"):                # the window that ends in a block goes on in it
        for _ in range(4): assert F.linear(x, w).sum().item() == 60 and F.linear(x, w).dtype is forno.bfloat16


def test_a_weight_is_cast_once():
    x, w = forno.ones(8, 8), forno.ones(8, 8, requires_grad=True)
    with forno.autocast("cpu"):
        y = x
        for _ in range(3): y = y @ w
    y.float().sum().backward()
    assert w.grad.dtype is forno.float32 and w.grad.shape == (8, 8) and np.allclose(w.grad.numpy(), 3 * 8 ** 3)


def test_values_round_to_the_narrow_type():
    a = np.random.default_rng(0).standard_normal((64, 300)).astype("float32")
    with forno.autocast("cpu"): got = forno.tensor(a) @ forno.tensor(a).t()
    b = torch.tensor(a).bfloat16().float()
    exact = (b @ b.t()).numpy()
    error = np.abs(got.float().numpy() - exact)
    assert (error <= 0.005 * np.abs(exact) + 1e-3).all() and np.abs(got.float().numpy() - (a @ a.T)).max() > 0.01


def test_backward_inside_a_block_and_function_transforms():
    w = forno.ones(3, 3, requires_grad=True)
    with forno.autocast("cpu"):
        (w @ w).sum().backward()
        with forno.autocast("cpu", enabled=False): y = (w @ w).sum()
        y.backward()
        per = forno.func.vmap(lambda v: w.detach() @ v)(forno.ones(5, 3))
        g = forno.func.grad(lambda v: (w.detach() @ v).sum())(forno.ones(3))
    assert w.grad.dtype is forno.float32 and per.dtype is forno.bfloat16 and g.dtype is forno.float32 and np.allclose(w.grad.numpy(), 12)


def test_custom_functions():
    for lib in LIBS:
        seen = []

        class Cast(lib.autograd.Function):
            @staticmethod
            @lib.amp.custom_fwd(device_type="cpu", cast_inputs=lib.float32)
            def forward(ctx, x, more):
                seen.append((x.dtype, more[0].dtype, lib.is_autocast_enabled("cpu"), narrow(lib, x)))
                ctx.save_for_backward(x)
                return x * 2

            @staticmethod
            @lib.amp.custom_bwd(device_type="cpu")
            def backward(ctx, g):
                seen.append((lib.is_autocast_enabled("cpu"), narrow(lib, ctx.saved_tensors[0])))
                return g * 2, None

        class As(lib.autograd.Function):
            @staticmethod
            @lib.amp.custom_fwd(device_type="cpu")
            def forward(ctx, x):
                seen.append((x.dtype, narrow(lib, x)))
                ctx.save_for_backward(x)
                return x @ x

            @staticmethod
            @lib.amp.custom_bwd(device_type="cpu")
            def backward(ctx, g):
                seen.append((lib.is_autocast_enabled("cpu"), narrow(lib, ctx.saved_tensors[0])))
                return g.to(lib.float32)
        x = lib.ones(2, 2, requires_grad=True)
        with lib.autocast("cpu"): y, z = Cast.apply(x.bfloat16(), [x.bfloat16()]), As.apply(x)
        (y.sum() + z.sum()).backward()
        f, b = lib.float32, lib.bfloat16
        assert sorted(map(str, seen)) == sorted(map(str, [(f, f, False, f), (f, b), (True, b), (False, f)])) and x.grad.dtype is f
        y = Cast.apply(x, [x.bfloat16()])
        assert seen[-1] == (f, b, False, f)


def program(lib, name, scaler=None):
    """Losses of ten steps of training."""
    nn, rng = lib.nn, np.random.default_rng(0)

    def draw(*shape): return lib.tensor(rng.standard_normal(shape).astype("float32"))
    if name == "cnn":
        m, x = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5)), draw(16, 3, 12, 12)
    else:
        m = nn.Sequential(nn.Linear(12, 32), nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True), nn.Flatten(), nn.Linear(32 * 6, 5))
        x = draw(16, 6, 12)
    with lib.no_grad():
        for p in m.parameters(): p.copy_(draw(*p.shape) * 0.1)
    target, opt, losses = lib.tensor(rng.integers(0, 5, 16)), lib.optim.AdamW(m.parameters(), lr=0.005), []
    for _ in range(10):
        opt.zero_grad()
        with lib.autocast("cpu"):
            out = m(x)
            loss = nn.functional.cross_entropy(out, target)
        assert out.dtype is lib.bfloat16 and loss.dtype is lib.float32
        if scaler is None:
            loss.backward()
            opt.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(opt)
            scaler.update()
        losses.append(loss.item())
    assert {p.grad.dtype for p in m.parameters()} == {lib.float32}
    return losses


@pytest.mark.parametrize("name", ["cnn", "transformer"])
def test_training(name):
    expected, got = program(torch, name), program(forno, name)
    assert got[-1] < 0.8 * got[0] and np.allclose(got, expected, rtol=0.02, atol=0.01), (got, expected)
    assert np.allclose(program(forno, name, forno.amp.GradScaler("cpu")), got, rtol=0.02, atol=0.01)


@pytest.mark.filterwarnings("ignore")
def test_the_older_names():
    for lib in LIBS:
        class Double(lib.autograd.Function):
            @staticmethod
            @lib.cuda.amp.custom_fwd(cast_inputs=lib.float16)
            def forward(ctx, x): return x * 2

            @staticmethod
            @lib.cuda.amp.custom_bwd
            def backward(ctx, g): return g * 2
        x = lib.ones(3, requires_grad=True)
        with lib.cuda.amp.autocast(): y = Double.apply(x)
        y.sum().backward()
        assert y.dtype is lib.float32 and x.grad.tolist() == [2, 2, 2] and not lib.cuda.amp.GradScaler().is_enabled()
    assert lib.amp.is_autocast_available("cpu") and not lib.amp.is_autocast_available("nowhere")


def test_checkpoints_run_again_in_the_same_types():
    for lib in LIBS:
        seen, w = [], lib.ones(4, 4, requires_grad=True)

        def f(x):
            y = x @ w
            seen.append(y.dtype)
            return (y @ w).float().sum()
        with lib.autocast("cpu"): out = lib.utils.checkpoint.checkpoint(f, lib.ones(4, 4, requires_grad=True), use_reentrant=False)
        out.backward()
        assert seen == [lib.bfloat16] * 2 and w.grad.dtype is lib.float32


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_take_narrow_inputs(kind):
    for lib in LIBS:
        m = getattr(lib.nn, kind)(5, 4)
        with lib.autocast("cpu"): assert m(lib.ones(3, 2, 5).bfloat16())[0].dtype is lib.bfloat16
        with pytest.raises(ValueError, match="does not match weight dtype"): m(lib.ones(3, 2, 5).bfloat16())
