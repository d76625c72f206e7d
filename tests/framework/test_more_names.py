"""The top namespace's smaller names against PyTorch: C++ forms of nn's functions, views as copies, in-place functions, segments, streams, control flow."""
import pytest
import torch

import forno

G = torch.Generator().manual_seed(0)


def rand(*shape): return torch.rand(*shape, generator=G) * 2 - 1


def ours(x):
    if isinstance(x, torch.Tensor): return forno.from_numpy(x.detach().numpy().copy()).requires_grad_(x.requires_grad)
    if isinstance(x, (tuple, list)): return type(x)(map(ours, x))
    return getattr(forno, str(x)[6:]) if isinstance(x, torch.dtype) else x


def same(a, b):
    if isinstance(b, (tuple, list)):
        assert len(a) == len(b)
        for x, y in zip(a, b): same(x, y)
    elif isinstance(b, torch.Tensor):
        assert str(a.dtype) == str(b.dtype), (a.dtype, b.dtype)
        torch.testing.assert_close(torch.from_numpy(a.detach().numpy().copy()), b.detach(), rtol=1e-4, atol=1e-5, equal_nan=True)
    else: assert a == b


A, B, W = rand(4, 3), rand(4, 3), rand(3)
TARGET = torch.tensor([1.0, -1, 1, -1])
IMAGE, INDEX = rand(2, 4, 5, 5), torch.tensor([2, 0, 1, 2, 2])
L = [rand(12, 3), rand(12, 3), rand(12), rand(12)]
P = [rand(12, 3), rand(12, 3), rand(12), rand(12), rand(12, 3), rand(12, 3), rand(12), rand(12)]
R = [rand(3, 3), rand(3, 3), rand(3), rand(3)]
N = [rand(9, 3), rand(9, 3), rand(9), rand(9)]
CALLS = {
    "channel_shuffle": (IMAGE, 2), "native_channel_shuffle": (IMAGE, 2), "pixel_shuffle": (IMAGE, 2), "pixel_unshuffle": (rand(1, 2, 4, 4), 2),
    "pairwise_distance": (A, B), "pdist": (A,), "bilinear": (A, B, rand(2, 3, 3), rand(2)), "conv_tbc": (rand(5, 2, 3), rand(3, 3, 4), rand(4), 1),
    "binary_cross_entropy_with_logits": (A, (B > 0).float(), None, None, 2), "cosine_embedding_loss": (A, B, TARGET, 0.1, 0),
    "ctc_loss": (rand(6, 2, 5).log_softmax(2), torch.tensor([[1, 2], [3, 3]]), torch.tensor([6, 6]), torch.tensor([2, 2]), 0, 2, False),
    "hinge_embedding_loss": (A[:, 0], TARGET, 1.5, 0), "kl_div": (A, B.abs()), "margin_ranking_loss": (A[:, 0], B[:, 0], TARGET, 0.2, 0),
    "poisson_nll_loss": (A, B.abs(), True, False, 1e-8, 2), "triplet_margin_loss": (A, B, A.flip(0)),
    "alpha_dropout": (A, 0.5, False), "dropout_": (A, 0.5, False), "feature_dropout": (IMAGE, 0.0, True), "feature_alpha_dropout": (IMAGE, 0.3, False),
    "native_dropout": (A, 0.5, False), "celu_": (A, 0.7), "rrelu": (A,), "selu_": (A,), "threshold_": (A, 0.1, 3.0), "prelu": (A, torch.tensor([0.3])),
    "instance_norm": (IMAGE, None, None, None, None, True, 0.1, 1e-5, False), "native_layer_norm": (A, (3,), W, None, 1e-5),
    "native_group_norm": (IMAGE, None, None, 2, 4, 25, 2, 1e-5), "native_batch_norm": (IMAGE, None, None, None, None, True, 0.1, 1e-5),
    "grid_sampler": (IMAGE, rand(2, 3, 3, 2), 0, 1, True), "grid_sampler_2d": (IMAGE, rand(2, 3, 3, 2), 1, 0, False),
    "affine_grid_generator": (rand(2, 2, 3), (2, 1, 3, 4), False), "convolution": (IMAGE, rand(3, 4, 2, 2), None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1),
    "embedding_bag": (A, INDEX, torch.tensor([0, 2]), False, 1), "embedding_renorm_": (A * 5, torch.tensor([1, 2]), 1.0, 2.0),
    "gru_cell": (A, B, *N), "lstm_cell": (A, (B, A.flip(0)), *L), "rnn_tanh_cell": (A, B, *R), "rnn_relu_cell": (A, B, *R),
    "lstm": (rand(5, 2, 3), (rand(2, 2, 3), rand(2, 2, 3)), P, True, 2, 0.0, False, False, False),
    "gru": (rand(2, 5, 3), rand(1, 2, 3), N, True, 1, 0.0, False, False, True), "rnn_tanh": (rand(2, 5, 3), rand(1, 2, 3), R[:2], False, 1, 0.0, False, False, True),
    "alias_copy": (A,), "as_strided_copy": (A, (2, 2), (1, 3)), "detach_copy": (A,), "diagonal_copy": (A,), "expand_copy": (W, (2, 3)), "narrow_copy": (A, 0, 1, 2),
    "permute_copy": (A, (1, 0)), "select_copy": (A, 0, 1), "slice_copy": (A, 0, 1, 4, 2), "split_copy": (A, 2), "split_with_sizes_copy": (A, [1, 3]),
    "squeeze_copy": (A[:1],), "t_copy": (A,), "transpose_copy": (A, 0, 1), "unbind_copy": (A,), "unfold_copy": (W, 0, 2, 1), "unsqueeze_copy": (A, 1),
    "view_as_real_copy": (torch.complex(A, B),), "view_as_complex_copy": (rand(3, 2),), "view_copy": (A, (3, 4)),
    "clamp_": (A, -0.2, 0.2), "clip_": (A, -0.2, 0.2), "clamp_max_": (A, 0.1), "clamp_min_": (A, 0.1), "addmv_": (rand(4), A, W), "round_": (A * 5,),
    "gcd_": (INDEX, torch.tensor(2)), "lcm_": (INDEX, torch.tensor(2)), "xlogy_": (A, B.abs()), "logit_": (A.abs(),), "nan_to_num_": (A / 0,), "ldexp_": (A, torch.tensor(2)),
    "index_put_": (A, (torch.tensor([0, 1]),), torch.tensor(7.0)), "as_strided_": (A, (2, 2), (1, 2)), "conj_physical_": (torch.complex(A, B),),
    "frobenius_norm": (A, (0, 1)), "nuclear_norm": (A,), "norm_except_dim": (A, 2, 1), "range": (0, 3), "empty_permuted": ((0, 3), (1, 0)),
    "sym_int": (3.7,), "sym_float": (2,), "sym_max": (2, 3.0), "sym_min": (2, 3), "sym_not": (True,), "sym_ite": (True, 2, 3), "sym_sqrt": (4,), "sym_sum": ([1, 2],),
}


def fresh(x): return x.clone() if isinstance(x, torch.Tensor) else type(x)(map(fresh, x)) if isinstance(x, (tuple, list)) else x


@pytest.mark.parametrize("name", CALLS)
def test_call(name):
    args = fresh(CALLS[name])
    mine = ours(args)
    got, want = getattr(forno, name)(*mine), getattr(torch, name)(*args)
    same(got, want)
    if name.endswith("_"):
        assert got is mine[0]
        same(mine[0], args[0])


def test_packed_sequences():
    packed = torch.nn.utils.rnn.pack_padded_sequence(rand(4, 3, 3), torch.tensor([4, 2, 1]))
    args = (packed.data, packed.batch_sizes, rand(1, 3, 3), N, True, 1, 0.0, False, False)
    same(forno.gru(*ours(args)), torch.gru(*args))


def test_bags():
    weight, index = rand(4, 3), torch.tensor([0, 3, 1, 2])
    for mode in (0, 1, 2):
        a, b = forno.embedding_bag(ours(weight), ours(index), forno.tensor([0, 3]), False, mode), torch.embedding_bag(weight, index, torch.tensor([0, 3]), False, mode)
        same(a[0], b[0])
        if mode: same(a[1:], b[1:])


@pytest.mark.parametrize("how", ["sum", "mean", "max", "min", "prod"])
def test_segments(how):
    x, lengths = rand(4, 2), torch.tensor([1, 0, 3])
    same(forno.segment_reduce(ours(x), how, lengths=ours(lengths)), torch.segment_reduce(x, how, lengths=lengths))
    same(forno.segment_reduce(ours(x), how, lengths=ours(lengths), initial=2), torch.segment_reduce(x, how, lengths=lengths, initial=2))
    same(forno.segment_reduce(ours(x), how, offsets=forno.tensor([0, 1, 4])), torch.segment_reduce(x, how, offsets=torch.tensor([0, 1, 4])))
    per_row = torch.tensor([[1, 1], [0, 2]])
    same(forno.segment_reduce(ours(x[:2]), how, lengths=ours(per_row), axis=1), torch.segment_reduce(x[:2], how, lengths=per_row, axis=1))
    with pytest.raises(RuntimeError, match="to sum to"): forno.segment_reduce(ours(x), how, lengths=forno.tensor([1, 1]))
    t = x.clone().requires_grad_()
    u = ours(t)
    torch.segment_reduce(t, how, lengths=torch.tensor([1, 3])).square().sum().backward()
    forno.segment_reduce(u, how, lengths=forno.tensor([1, 3])).square().sum().backward()
    same(u.grad, t.grad)


@pytest.mark.parametrize("how", ["max", "min"])
def test_segments_share_nothing_with_their_beginning(how):
    """An element that equals `initial` gets the whole gradient; elements that are equal share it."""
    for values in ([1.0, 2.0, 2.0, 3.0], [2.0, 2.0, 1.0, 1.0], [0.0, 2.0, 5.0, 2.0]):
        t = torch.tensor(values, requires_grad=True)
        u = ours(t)
        out = torch.segment_reduce(t, how, lengths=torch.tensor([2, 2]), initial=2)
        made = forno.segment_reduce(u, how, lengths=forno.tensor([2, 2]), initial=2)
        out.sum().backward()
        made.sum().backward()
        same(made, out)
        same(u.grad, t.grad)


def test_layout():
    for size, order in (((2, 3), (1, 0)), ((2, 3, 4), (2, 0, 1)), ((), ())):
        a, b = forno.empty_permuted(size, order), torch.empty_permuted(size, order)
        assert (tuple(a.shape), a.stride(), a.dim_order()) == (tuple(b.shape), b.stride(), b.dim_order())
    with pytest.raises(RuntimeError): forno.empty_permuted((2, 3), (0, 0))
    x = torch.tensor([[0, 3, 0], [4, 0, 5]])
    for size in (0, 2, 3, 5): same(forno.nonzero_static(ours(x), size=size, fill_value=7), torch.nonzero_static(x, size=size, fill_value=7))


def test_views_as_copies_are_copies():
    x = forno.arange(6.0).reshape(2, 3).requires_grad_()
    y = forno.permute_copy(x, (1, 0))
    assert y.is_contiguous() and y.data_ptr() != x.data_ptr()
    y.sum().backward()
    assert x.grad.tolist() == [[1.0] * 3] * 2
    out = forno.empty(3, 2)
    assert forno.permute_copy(x.detach(), (1, 0), out=out) is out and out[2, 1] == 5


def test_python_functions_of_elements():
    x, y = forno.arange(4.0), forno.ones(4)
    assert x.apply_(lambda a: a * 2) is x and x.tolist() == [0, 2, 4, 6]
    assert x.map_(y, lambda a, b: a + b).tolist() == [1, 3, 5, 7] and x.map2_(y, y, lambda a, b, c: a - b - c).tolist() == [-1, 1, 3, 5]
    with pytest.raises(RuntimeError, match="requires grad"): forno.ones(2, requires_grad=True).apply_(abs)


def test_streams_and_events():
    s, e = forno.Stream(), forno.Event()
    e.record(s)
    s.wait_event(e)
    assert s.query() and e.query() and s.record_event().query() and repr(s) == repr(torch.Stream()) and repr(e) == repr(torch.Event())
    with s: pass
    for m in (forno, torch):
        with pytest.raises(Exception, match=r"(?i)elapsed"): m.Event(enable_timing=True).elapsed_time(m.Event(enable_timing=True))


def test_storages_by_type():
    s = forno.FloatStorage([1, 2, 3])
    assert s.dtype is forno.float32 and list(s) == [1, 2, 3] and isinstance(s, forno.FloatStorage) and not isinstance(s, forno.LongStorage)
    assert forno.Storage is forno.FloatStorage and len(forno.LongStorage(4)) == 4 and forno.ones(2).double().storage_type() is forno.DoubleStorage
    assert repr(forno.FloatStorage) == repr(torch.FloatStorage) and isinstance(forno.ones(2).storage(), forno.FloatStorage)


def test_control_flow():
    for m in (forno, torch):
        up, down = (lambda x: x + 1), (lambda x: x - 1)
        assert m.cond(True, up, down, (m.ones(2),)).tolist() == [2, 2] and m.cond(m.tensor(False), up, down, (m.ones(2),)).tolist() == [0, 0]
        assert m.while_loop(lambda x: x.sum() < 10, lambda x: (x + 1,), (m.zeros(3),))[0].tolist() == [4, 4, 4]
    x = forno.ones(2, requires_grad=True)
    forno.cond(x.sum() > 0, lambda x: x * 3, lambda x: x, (x,)).sum().backward()
    assert x.grad.tolist() == [3, 3]
    with pytest.raises(RuntimeError): forno.cond(forno.ones(2), up, down, (x,))


@pytest.mark.parametrize("name", ["eig", "symeig", "lstsq", "solve", "matrix_rank"])
def test_removed(name):
    for m in (forno, torch):
        with pytest.raises(RuntimeError, match="deprecated since version 1.9 and is now removed"): getattr(m, name)(m.eye(2), m.eye(2)) if name in ("lstsq", "solve") else getattr(m, name)(m.eye(2))


def test_flags():
    for name in ("is_xla", "is_ipu", "is_maia", "is_mtia", "is_vulkan", "volatile", "name", "grad_dtype"):
        assert str(getattr(forno.ones(1), name)) == str(getattr(torch.ones(1), name))
    assert issubclass(forno.AcceleratorError, RuntimeError) and forno.GradScaler is forno.amp.GradScaler and not forno.is_vulkan_available()


def test_what_a_vertex_saved():
    """grad_fn._saved_…: what it is called, what it is, and that it's gone after backward."""
    for m in (forno, torch):
        x, y = m.tensor([1.0, 2.0], requires_grad=True), m.tensor([3.0, 4.0], requires_grad=True)
        z = x * y
        assert z.grad_fn._saved_self.tolist() == [1, 2] and z.grad_fn._saved_other.tolist() == [3, 4] and (x * 2).grad_fn._saved_self is None
        assert (x ** 2).grad_fn._saved_exponent == 2 and (x ** 3.5).grad_fn._saved_exponent == 3.5 and (x ** 2).grad_fn._saved_self.tolist() == [1, 2]
        assert x.sigmoid().grad_fn._saved_result.tolist() == x.sigmoid().tolist() and x.log().grad_fn._saved_self.tolist() == [1, 2]
        assert (x / y).grad_fn._saved_other.tolist() == [3, 4] and "_saved_result" in dir(x.tanh().grad_fn)
        with pytest.raises(AttributeError): _ = z.grad_fn._saved_nothing
        z.sum().backward()
        with pytest.raises(RuntimeError, match="already been freed"): _ = z.grad_fn._saved_self


def test_prehooks_of_vertices():
    for m in (forno, torch):
        x, seen = m.ones(2, requires_grad=True), []
        z = x * 3
        z.grad_fn.register_prehook(lambda g, seen=seen: seen.append(len(g)) or (g[0] * 10,))
        z.sum().backward()
        assert x.grad.tolist() == [30, 30] and seen == [1]


def test_devices_as_contexts():
    with forno.device("cpu") as d: assert forno.ones(2).device == d
    forno.set_default_device("cpu")
    try: assert forno.get_default_device() == forno.device("cpu")
    finally: forno.set_default_device(None)    # while one is set, it is named for every tensor that is made, also for copies of other devices' tensors


def test_files_as_memory(tmp_path):
    path = str(tmp_path / "x")
    for m in (forno, torch):
        t = m.from_file(path, shared=True, size=4)
        t.fill_(2)
        assert m.from_file(path, False, 4).tolist() == [2.0] * 4 and (tmp_path / "x").stat().st_size == 16
        private = m.from_file(path, False, 4)
        private.zero_()
        assert m.from_file(path, False, 4).tolist() == [2.0] * 4
        with pytest.raises(RuntimeError, match="smaller than the required"): m.from_file(path, False, 40)


def test_grouped_products():
    f, g = forno.nn.functional.grouped_mm, torch.nn.functional.grouped_mm
    offs = torch.tensor([1, 4], dtype=torch.int32)
    for a, b, o in ((rand(4, 8), rand(2, 8, 4), offs), (rand(8, 4), rand(4, 8), offs), (rand(2, 4, 8), rand(8, 4), offs), (rand(2, 4, 8), rand(2, 8, 4), None)):
        same(f(ours(a), ours(b), offs=ours(o)), g(a, b, offs=o))
    for m, h in ((forno, f), (torch, g)):
        with pytest.raises(RuntimeError, match="provide offsets"): h(m.ones(4, 8), m.ones(2, 8, 4))
        with pytest.raises(RuntimeError, match="int32"): h(m.ones(4, 8), m.ones(2, 8, 4), offs=m.tensor([1, 4]))


def test_helpers_of_libraries():
    for m in (forno, torch):
        assert m.nn.factory_kwargs({"device": "cpu", "factory_kwargs": {"dtype": m.float32}}) == {"device": "cpu", "dtype": m.float32}
        for bad in ({"x": 1}, {"dtype": m.float32, "factory_kwargs": {"dtype": m.float32}}):
            with pytest.raises(TypeError): m.nn.factory_kwargs(bad)
        net = m.nn.Sequential(m.nn.Conv2d(3, 4, 3), m.nn.BatchNorm2d(4))
        m.nn.utils.convert_conv2d_weight_memory_format(net, m.channels_last)
        assert net[0].weight.is_contiguous(memory_format=m.channels_last) and net(m.ones(1, 3, 5, 5)).shape == (1, 4, 3, 3)
        m.func.replace_all_batch_norm_modules_(net)
        assert net[1].running_mean is None and not net[1].track_running_stats
        assert m.func.functionalize(lambda x: x.add_(1))(m.ones(2)).tolist() == [2, 2]
        with pytest.raises(RuntimeError): m.func.functionalize(lambda x: x, remove="x")(m.ones(1))
        x = m.ones(1)
        assert m.func.debug_unwrap(x) is x and m.wait(m.fork(lambda x: x + 1, x)).item() == 2
        m.set_anomaly_enabled(True)
        assert m.is_anomaly_enabled()
        m.set_anomaly_enabled(False)


def test_skip_init():
    forno.manual_seed(3)
    want = forno.rand(4).tolist()
    forno.manual_seed(3)
    layer = forno.nn.utils.skip_init(forno.nn.Linear, 3, 2, bias=False)
    assert layer.weight.shape == (2, 3) and layer.weight.requires_grad and forno.rand(4).tolist() == want
