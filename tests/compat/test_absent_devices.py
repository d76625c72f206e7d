"""torch.cuda, torch.backends and their neighbours: the same expressions answer as in a CPU-only PyTorch."""
import warnings

import pytest
import torch

import forno

SAME = """cuda.is_available() cuda.device_count() cuda.is_initialized() cuda.current_device() cuda.get_device_name() cuda.get_device_capability()
cuda.get_device_properties(0) cuda.set_device(-1) cuda.synchronize() cuda.empty_cache() cuda.manual_seed(1) cuda.manual_seed_all(1) cuda.seed() cuda.initial_seed()
cuda.memory_allocated() cuda.max_memory_allocated() cuda.memory_reserved() cuda.max_memory_reserved() cuda.memory_stats() cuda.mem_get_info() cuda.get_rng_state()
cuda.get_rng_state_all() cuda.current_stream() cuda.Stream() cuda.init() cuda.is_bf16_supported() cuda.get_arch_list() cuda.ipc_collect() cuda.memory_cached()
cuda.FloatTensor cuda.has_magma cuda.default_generators ones(1).cuda() nn.Linear(1,1).cuda() ones(1).is_cuda isinstance(t.ones(1),t.cuda.FloatTensor)
backends.cudnn.is_available() backends.cudnn.version() backends.cudnn.enabled backends.cudnn.benchmark backends.cudnn.deterministic backends.cudnn.allow_tf32
backends.cuda.matmul.allow_tf32 backends.cuda.is_built() backends.mps.is_available() backends.mps.is_built() backends.cpu.get_cpu_capability()
backends.cuda.flash_sdp_enabled() distributed.is_initialized() distributed.get_rank() distributed.get_world_size() mps.is_available() xpu.is_available() xpu.device_count()
mps.manual_seed(1) mps.empty_cache() xpu.empty_cache() xpu.synchronize() mps.synchronize() accelerator.is_available() accelerator.current_accelerator()
accelerator.device_count() accelerator.current_device_index() jit.is_scripting() compiler.is_compiling() overrides.is_tensor_like(3) overrides.is_tensor_like(t.ones(1))
overrides.has_torch_function((t.ones(1),)) get_float32_matmul_precision() are_deterministic_algorithms_enabled() is_autocast_enabled() get_autocast_dtype('cpu')
get_autocast_gpu_dtype() is_autocast_cpu_enabled() get_default_device() is_warn_always_enabled() get_deterministic_debug_mode() amp.GradScaler().is_enabled()
amp.GradScaler(enabled=False).scale(3) amp.GradScaler().get_scale() amp.GradScaler(enabled=False).state_dict() cuda.amp.GradScaler().is_enabled()
amp.GradScaler('cpu').state_dict() amp.is_autocast_available('cpu') version.cuda inf pi set_float32_matmul_precision('x') device('cuda') amp.autocast() hub.get_dir()""".split()


def outcome(text, lib):
    try: r = eval(("t." if not text.startswith("isinstance") else "") + text, {"t": lib})
    except Exception as e: return type(e), str(e)
    return repr(r)


@pytest.mark.filterwarnings("ignore")
def test_like_torch_without_cuda():
    if torch.version.cuda is not None: pytest.skip("the oracle is a CUDA build")
    for text in SAME: assert outcome(text, forno) == outcome(text, torch), text


def test_the_usual_idioms(monkeypatch):
    # PyTorch's own test helpers, which other tests import, forbid changing its flags from then on
    monkeypatch.setitem(torch.backends.flags_frozen.__globals__, "__allow_nonbracketed_mutation_flag", True)
    for lib in (torch, forno):
        device = lib.device("cuda" if lib.cuda.is_available() else "mps" if lib.backends.mps.is_available() else "cpu")
        assert lib.ones(1, device=device).device.type == "cpu" == lib.nn.Linear(1, 1).to(device).weight.device.type
        lib.backends.cudnn.benchmark = True
        lib.backends.cudnn.deterministic = False
        with lib.backends.cudnn.flags(enabled=False): assert not lib.backends.cudnn.enabled
        assert lib.backends.cudnn.enabled and lib.backends.cudnn.benchmark
        lib.backends.cudnn.benchmark = False
        lib.backends.cuda.matmul.allow_tf32 = False
        with lib.cuda.stream(None), lib.cuda.device(-1): pass
        lib.use_deterministic_algorithms(True, warn_only=True)
        assert lib.are_deterministic_algorithms_enabled() and lib.get_deterministic_debug_mode() == 1
        lib.use_deterministic_algorithms(False)
        rank = lib.distributed.get_rank() if lib.distributed.is_available() and lib.distributed.is_initialized() else 0
        assert rank == 0
    assert not forno.distributed.is_available()
    with pytest.raises(NotImplementedError, match="one process"): forno.distributed.init_process_group("gloo")


def test_autocast():
    for lib in (torch, forno):
        with pytest.warns(UserWarning, match="CUDA is not available or torch_xla is imported. Disabling autocast"), lib.autocast("cuda"): assert not lib.is_autocast_enabled()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with lib.autocast("cpu"):
                assert lib.is_autocast_enabled("cpu") and lib.get_autocast_dtype("cpu") is lib.bfloat16
                with lib.autocast("cpu", enabled=False): assert not lib.is_autocast_enabled("cpu")
                assert lib.is_autocast_enabled("cpu")
            assert not lib.is_autocast_enabled("cpu")

            @lib.autocast("cpu", dtype=lib.bfloat16)
            def f(): return lib.is_autocast_enabled("cpu")
            assert f()
        with pytest.raises(RuntimeError): lib.autocast("nowhere")


def scaled_training(lib):
    lib.manual_seed(0)
    w = lib.ones(3, requires_grad=True)
    opt = lib.optim.SGD([w], lr=0.1)
    scaler, seen = lib.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2), []
    for step in range(6):
        opt.zero_grad()
        loss = (w * w).sum() * (float("inf") if step == 3 else 1.0)
        scaler.scale(loss).backward()
        if step % 2: scaler.unscale_(opt)
        scaler.step(opt)
        scaler.update()
        seen.append((scaler.get_scale(), w.tolist()))
    with pytest.raises((AssertionError, RuntimeError)): scaler.update()
    other = lib.amp.GradScaler("cpu")
    other.load_state_dict(scaler.state_dict())
    return seen, other.state_dict()


def test_grad_scaler():
    (ours, state), (theirs, expected) = scaled_training(forno), scaled_training(torch)
    assert state == expected
    for (a, v), (b, w) in zip(ours, theirs, strict=True): assert a == b and v == pytest.approx(w)
    with pytest.warns(UserWarning, match="Disabling"): scaler = forno.cuda.amp.GradScaler()
    assert not scaler.is_enabled() and scaler.scale(5) == 5 and scaler.state_dict() == {}


def test_jit_gives_back_what_it_gets():
    def f(x): return x + 1
    m = forno.nn.Linear(1, 1)
    assert forno.compile(f, disable=True) is f and forno.compile(fullgraph=True)(f).__wrapped__ is f and forno.jit.script(m) is m
    assert forno.jit.trace(f, forno.ones(1)) is f and forno.jit.ignore(f) is f and forno.jit.ignore(drop=True)(f) is f and forno.jit.wait(forno.jit.fork(f, 1)) == 2
    assert not isinstance(m, forno.jit.ScriptModule) and forno.compiler.disable(f) is f and forno.compile(f) is f
    forno._dynamo.reset()
    with forno._dynamo.config.patch(suppress_errors=True): assert forno._dynamo.config.suppress_errors
    assert not forno._dynamo.config.suppress_errors
    with pytest.raises(TypeError): forno.compile(3)
    with pytest.raises(NotImplementedError, match="state_dict"): forno.jit.save(m, "x")
    with pytest.raises(NotImplementedError, match="state_dict"): forno.jit.load("x")


def test_versions():
    v = forno.__version__
    assert v == "0.1.0" or str(v)[0].isdigit()
    for lib in (torch, forno):
        v = lib.__version__
        assert v >= "2.0" and v > (1, 13) and v >= (2,) and not v < "1.9" and v < "3" and v >= "2.13.0"
    assert forno.torch_version.split("+")[0] == "2.13.0" and tuple(map(int, forno.torch_version.split(".")[:2])) == (2, 13)
    with pytest.raises(ValueError, match="Invalid version"): assert forno.torch_version > "abc"


def test_fork_rng():
    for lib in (torch, forno):
        lib.manual_seed(3)
        with lib.random.fork_rng(): inside = lib.rand(2)
        assert lib.rand(2).tolist() == inside.tolist()


def test_variable():
    for lib in (torch, forno):
        x = lib.ones(2)
        v = lib.autograd.Variable(x, requires_grad=True)
        assert v.requires_grad and not x.requires_grad and isinstance(x, lib.autograd.Variable) and not isinstance(3, lib.autograd.Variable)
        (v * 3).sum().backward()
        assert v.grad.tolist() == [3, 3]


def test_hub_from_a_folder(tmp_path):
    (tmp_path / "hubconf.py").write_text("def small(n=1):\n    'A model.'\n    return ['model', n]\n")
    assert forno.hub.list(tmp_path, source="local") == ["small"] and forno.hub.load(tmp_path, "small", 3, source="local") == ["model", 3]
    assert forno.hub.help(tmp_path, "small", source="local") == "A model."
    with pytest.raises(RuntimeError, match="Cannot find callable"): forno.hub.load(tmp_path, "large", source="local")
    with pytest.raises(NotImplementedError, match="local"): forno.hub.load("owner/name", "small")


def test_weights_from_a_url(tmp_path):
    forno.save({"w": forno.ones(2)}, tmp_path / "w.pt")
    got = forno.hub.load_state_dict_from_url((tmp_path / "w.pt").as_uri(), model_dir=tmp_path / "cache")
    assert got["w"].tolist() == [1, 1] and [p.name for p in (tmp_path / "cache").iterdir()] == ["w.pt"]
    with pytest.raises(RuntimeError, match="invalid hash"): forno.hub.download_url_to_file((tmp_path / "w.pt").as_uri(), str(tmp_path / "bad.pt"), "zzzz")
    assert not (tmp_path / "bad.pt").exists()
