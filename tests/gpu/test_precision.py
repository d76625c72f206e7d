"""Mixed precision on (simulated) GPUs: the types of results are those that PyTorch's own lists say, and a scaler's numbers stay on the device.

PyTorch is asked without a GPU: its fake tensors are on one, and have types but no values.
"""
import os
import re

import pytest
import torch as oracle
from torch._subclasses.fake_tensor import FakeTensorMode

import forno as torch
from forno import gpu
from forno.amp import counts_on_device
from forno.cudart import memory
from forno.framework.autocast import POLICIES_CUDA, narrow, wide, widest
from forno.framework.autocast_lists import FLOAT32_CUDA, FLOAT32_ROWS, NARROW_CUDA, WIDEST_CUDA
from forno.framework.engine import flush
from forno.gpu.sim import Machine
from tests.amp.test_autocast import FLOAT32, NARROW, WIDEST, expressions, kinds

pytestmark = pytest.mark.usefixtures("device")
HEADER = os.path.join(os.path.dirname(oracle.__file__), "include", "ATen", "autocast_mode.h")

ROWS = """
h.exp(); t.exp(h); h.expm1(); h.log(); h.log2(); h.log10(); t.log1p(h); h.acos(); t.arccos(h); h.asin(); h.cosh(); h.sinh(); h.tan(); h.erfinv(); t.special.expm1(h); h.reciprocal(); h.rsqrt(); 1 / h; 2.5 / h
h ** 2; h ** 0.5; h ** 1.5; h ** h; x ** h; h ** x; 2 ** h; 2.5 ** h; h.pow(3); t.pow(h, 2); t.pow(2, h); t.pow(h, x); h.square(); h.sqrt(); h.sin(); h.cos(); h.tanh(); h.sigmoid(); h.erf(); h.abs(); -h; h / 2; h / h
x.exp(); x ** 2; h.double().exp(); h.int().exp(); h.long() ** 2; t.exp(h, out=t.empty_like(h)); h.clone().exp_(); h.clone().pow_(2); h.clone().log_(); h + x; h * h; h.atan2(x); h.atan2(h); t.atan2(x, h)
h.exp().log().exp(); (h @ h.t()).exp(); x.exp() @ x.t()
""".replace("\n", ";")
FUNCTIONS = """
h.sum(); h.sum(1); t.sum(h, 0, keepdim=True); h.sum(dtype=t.float64); h.prod(); h.prod(1); h.cumsum(0); h.cumprod(1); h.mean(); h.std(); h.var(1); h.amax(); h.norm(); h.norm(2, 1); t.linalg.vector_norm(h); t.linalg.matrix_norm(h)
t.linalg.norm(h); h.softmax(0); F.softmax(h, 1); F.log_softmax(h, 0); h.log_softmax(1); F.softmin(h, 0); h.logsumexp(0); F.softplus(h); F.layer_norm(h, (5,)); F.rms_norm(h, (5,)); F.group_norm(i.to(h), 2)
F.batch_norm(h, None, None, training=True); F.gelu(h); F.silu(h); F.relu(h); F.elu(h); F.logsigmoid(h); F.leaky_relu(h); F.mish(h); F.glu(h, 0); F.hardtanh(h); F.normalize(h); F.cosine_similarity(h, h); t.dist(h, h); F.pdist(h)
t.cdist(h, h); t.renorm(h, 2, 0, 1.0); F.mse_loss(h, h); F.l1_loss(h, h); F.smooth_l1_loss(h, h); F.huber_loss(h, h); F.kl_div(h, h); F.nll_loss(h, c); F.cross_entropy(h, c); F.poisson_nll_loss(h, h); F.soft_margin_loss(h, h)
F.hinge_embedding_loss(h, h); F.cosine_embedding_loss(h, h, t.ones(4, device='cuda:0')); F.margin_ranking_loss(h, h, h); F.multilabel_margin_loss(h, cc); F.multi_margin_loss(h, c)
F.triplet_margin_loss(h, h, h); F.binary_cross_entropy_with_logits(h, h); F.binary_cross_entropy(h, h); F.gaussian_nll_loss(h, h, h); F.multilabel_soft_margin_loss(h, h)
F.interpolate(i.to(h).unsqueeze(0), scale_factor=2); F.interpolate(i.to(h).unsqueeze(0), scale_factor=2, mode='bilinear'); F.interpolate(i.to(h), scale_factor=2, mode='linear'); F.interpolate(i.to(h).unsqueeze(0), scale_factor=2, mode='bicubic')
F.interpolate(i.to(h).unsqueeze(0).unsqueeze(0), scale_factor=2, mode='trilinear'); F.interpolate(i.to(h).unsqueeze(0), scale_factor=0.5, mode='area'); F.upsample(i.to(h).unsqueeze(0), scale_factor=2); F.avg_pool2d(i.to(h), 2); F.max_pool2d(i.to(h), 2)
F.dropout(h); F.embedding(c, h); F.pad(h, (1, 1)); F.one_hot(c, 5); t.cat([h, x]); t.cat([h, h]); t.stack([x, h]); t.stack([h, h]); x.index_copy(0, c, x); t.where(h > 0, h, x); h.clamp(0, 1); t.addcmul(h, h, x)
t.addcmul(h, h, h); t.addcdiv(x, h, h); t.cross(t.ones(2, 3, device='cuda:0').to(h), t.ones(2, 3, device='cuda:0'), dim=1); t.dot(g, r); t.vdot(g, r); h.scatter_add(0, cc, x); x.index_put((c,), h); t.tensordot(h, x, ([1], [1]))
F.grid_sample(i.to(h).unsqueeze(0), t.zeros(1, 2, 2, 2, device='cuda:0')); t.einsum('ij,kj->ik', x, x); t.einsum('ij,ij->ij', x, x); t.outer(r, r); t.mv(x, r); t.inner(x, x); F.scaled_dot_product_attention(i, i, i)
F.conv1d(i, o(2, 4, 3)); F.conv2d(i.unsqueeze(0), o(2, 3, 2, 2)); F.conv3d(o(1, 2, 4, 4, 4), o(2, 2, 2, 2, 2)); F.conv_transpose2d(i.unsqueeze(0), o(3, 2, 2, 2)); F.linear(x, x, o(4)); t.addmm(o(4, 4), x, x.t())
t.addmv(o(4), x, r); t.addr(o(4, 5), o(4), r); t.baddbmm(o(3, 4, 4), i, i.mT); t.addbmm(o(4, 4), i, i.mT); F.prelu(x, o(1)); t.matrix_power(o(4, 4), 3); F.bilinear(x, x, o(2, 5, 5)); F.bilinear(h, x, o(2, 5, 5))
t.lerp(h, h, 0.5); t.trapezoid(h); t.nan_to_num(h); h.median(); t.lgamma(h); h.logcumsumexp(0); t.logaddexp(h, h); t.xlogy(h, h); t.sinc(h); t.logit(h); h.expand(4, 5).contiguous(); h.masked_fill(h > 0, 0)
""".replace("\n", ";")


@pytest.fixture
def device(monkeypatch):
    """One device: types don't depend on who runs first."""
    flush()
    with Machine(1, seed=3) as machine:
        monkeypatch.setattr(gpu, "_found", machine.driver())
        yield machine
        flush()


def names(lib, dtype):
    """As tests/amp's, on a GPU; h is in the narrow type."""
    x, i = lib.ones(4, 5, device="cuda:0"), lib.ones(3, 4, 5, device="cuda:0")
    return dict(t=lib, F=lib.nn.functional, x=x, i=i, h=x.to(getattr(lib, dtype)),
                o=lambda *shape: lib.ones(shape, device="cuda:0"), r=lib.ones(5, device="cuda:0"), g=lib.ones(5, device="cuda:0").to(getattr(lib, dtype)),
                c=lib.zeros(4, dtype=lib.int64, device="cuda:0"), cc=lib.zeros(4, 5, dtype=lib.int64, device="cuda:0"))


def typed(lib, text, dtype) -> list:
    """Types of an expression's results, or that it is refused; None: fake tensors can't say."""
    try: return kinds(eval(text, names(lib, dtype)))
    except (oracle._subclasses.fake_tensor.UnsupportedFakeTensorException, oracle._subclasses.fake_tensor.UnsupportedOperatorException,
            oracle._subclasses.fake_tensor.DynamicOutputShapeException, oracle._subclasses.fake_tensor.DataDependentOutputException): return None
    except (RuntimeError, AssertionError) as e: return ["refused"] if "unsafe to autocast" in str(e) else ["error", str(e)[:80]]


def theirs(listed, dtype) -> dict:
    before = oracle.get_autocast_dtype("cuda")
    with FakeTensorMode(allow_non_fake_inputs=True):
        oracle.set_autocast_dtype("cuda", getattr(oracle, dtype))
        oracle.set_autocast_enabled("cuda", True)
        try: return {e: typed(oracle, e, dtype) for e in listed}
        finally:
            oracle.set_autocast_enabled("cuda", False)
            oracle.set_autocast_dtype("cuda", before)


LIBRARIES = re.compile("linalg|fft|svd|pinv|cholesky|triangular|polar|geqrf|det")          # of no narrow types there either; fake tensors don't know


def on_gpu(text: str) -> list[str]:
    """tests/amp's expressions, without slices: PyTorch without CUDA refuses them."""
    out = [e.replace("x[0]", "r").replace("h[0]", "g").replace("[None, None]", ".unsqueeze(0).unsqueeze(0)").replace("[None]", ".unsqueeze(0)") for e in expressions(text)]
    return [e for e in out if not LIBRARIES.search(e)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("listed", "least"), [(ROWS, 58), (FUNCTIONS, 118), (on_gpu(NARROW), 18), (on_gpu(FLOAT32), 25), (on_gpu(WIDEST), 20)], ids=["rows", "functions", "narrow", "float32", "widest"])
def test_types_of_results(listed, least, dtype):
    known = {e: k for e, k in theirs(expressions(listed) if isinstance(listed, str) else listed, dtype).items() if k is not None and k[0] != "error"}
    assert len(known) >= least, "PyTorch's fake tensors said little"
    with torch.autocast("cuda", dtype=getattr(torch, dtype)): wrong = [(e, k, got) for e, k in known.items() if (got := typed(torch, e, dtype)) != k]
    assert not wrong, "\n".join(map(str, wrong))


# ---------------------------------------------------------------- PyTorch's lists, by name
def listed(macro: str) -> set[str]:
    text = open(HEADER, encoding="utf-8").read()
    body = re.search(rf"#define {macro}\(_\)(.*?)\n\n", text, re.S).group(1)
    return set(re.findall(r"_\((\w+)[,)]", body)) - {"ADD_NS"}


INSIDE = set("_convolution convolution _thnn_fused_lstm_cell _thnn_fused_gru_cell _scaled_dot_product_flash_attention native_layer_norm nll_loss2d".split())      # no names of users
CELLS = set("lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell".split())        # by their products
SAME = {"linalg_vecdot": "vecdot", "linalg_multi_dot": "multi_dot", "linalg_vector_norm": "vector_norm", "linalg_matrix_norm": "matrix_norm", "grid_sampler": "grid_sample"}


def ours(name: str) -> str: return "interpolate" if "upsample" in name else SAME.get(name, name)


@pytest.mark.skipif(not os.path.exists(HEADER), reason="needs PyTorch's headers")
@pytest.mark.parametrize(("macro", "mine", "policy"), [("LOWER_PRECISION_FP", NARROW_CUDA, narrow), ("FP32", FLOAT32_CUDA | FLOAT32_ROWS, wide), ("FP32_SET_OPT_DTYPE", FLOAT32_CUDA, wide),
                                                       ("PROMOTE", WIDEST_CUDA, widest)], ids=lambda x: x if isinstance(x, str) else "")
def test_every_name_on_pytorchs_lists(macro, mine, policy):
    found = {ours(name) for name in listed(f"AT_FORALL_{macro}") - INSIDE - CELLS}
    assert len(found) > 5 and not found - mine
    assert all(POLICIES_CUDA[name] is policy for name in found - FLOAT32_ROWS - {"interpolate"})


# ---------------------------------------------------------------- values, gradients, repeated programs
def test_values_and_gradients():
    x = torch.linspace(0.1, 3, 40, device="cuda").half().requires_grad_()
    with torch.autocast("cuda"):
        y = x.exp() + x ** 2
        assert y.dtype is torch.float32
    y.sum().backward()
    w = x.detach().float()
    assert torch.allclose(y.detach(), w.exp() + w * w, 1e-6, 1e-6) and x.grad.dtype is torch.float16 and torch.allclose(x.grad.float(), w.exp() + 2 * w, 2e-3, 2e-3)


def test_a_program_that_is_repeated_in_and_out_of_a_block():
    x = torch.ones(6, device="cuda").half()
    seen = []
    for on in (True, True, False, True, False, False):
        with torch.autocast("cuda", enabled=on): seen.append((x.log().dtype, (x ** 3).dtype, x.log().dtype))
        seen.append(x.exp().dtype)
    f, h = torch.float32, torch.float16
    assert seen == [(f, f, f), h, (f, f, f), h, (h, h, h), h, (f, f, f), h, (h, h, h), h, (h, h, h), h]


# ---------------------------------------------------------------- scaling
def train(device, make, scaler, poison=(), steps=5):
    """Weights after every step; `poison`: steps whose loss is infinite."""
    torch.manual_seed(0)
    w, x = torch.arange(1.0, 5.0).to(device).requires_grad_(), torch.tensor([0.5, -1.0, 2.0, 1.0]).to(device)
    out, optimizer = [], make([w])
    for k in range(steps):
        optimizer.zero_grad()
        loss = ((w * x) ** 2).sum() * (float("inf") if k in poison else 1.0)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        out.append(w.detach().clone())
    return [o.cpu() for o in out]


RULES = {"SGD": lambda p: torch.optim.SGD(p, 0.1), "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01), "nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
         "Adam": lambda p: torch.optim.Adam(p, 0.1, capturable=True), "AdamW": lambda p: torch.optim.AdamW(p, 0.1, capturable=True), "counted": lambda p: torch.optim.Adam(p, 0.1),
         "damped": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, dampening=0.5)}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("poison", [(), (0, 1, 3)], ids=["finite", "overflow"])
def test_scaled_steps_are_those_of_the_cpu(rule, poison):
    scalers = [torch.amp.GradScaler(d, init_scale=8.0, growth_interval=2) for d in ("cpu", "cuda")]
    here, there = (train(d, RULES[rule], s, poison) for d, s in zip(("cpu", "cuda"), scalers))
    for a, b in zip(here, there): assert torch.allclose(a, b, 1e-5, 1e-6), (here, there)
    assert scalers[0].state_dict() == scalers[1].state_dict()


@pytest.mark.parametrize(("rule", "looks"), [("momentum", False), ("Adam", False), ("counted", True)])
def test_nothing_waits_for_the_device(rule, looks, monkeypatch):
    """found_inf, the scale and the tracker stay there; only a rule that counts its steps in Python asks."""
    p, asked = torch.ones(3, device="cuda", requires_grad=True), []
    optimizer, scaler = RULES[rule]([p]), torch.amp.GradScaler("cuda", init_scale=8.0)
    assert counts_on_device(optimizer) is not looks
    monkeypatch.setattr(memory, "fetch_from", lambda *a, real=memory.fetch_from: asked.append(a) or real(*a))
    for _ in range(3):
        scaler.scale((p * p).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        flush()
    assert len(asked) == (3 if looks else 0)
