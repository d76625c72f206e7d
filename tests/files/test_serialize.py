"""save and load against torch.save and torch.load, both ways; then damaged and hostile files, which must end in an error that says what to do."""
import collections
import copy
import io
import os
import pathlib
import pickle
import pickletools
import random
import resource
import stat
import struct
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import torch

from forno.framework import api as ft
from forno.framework import archive
from forno.framework import serialize as fs
from forno.utils import safetensors as st

DTYPES = ["uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64", "float16", "bfloat16", "float32", "float64", "complex64",
          "complex128", "bool"]


def values(lib, name):
    dtype = getattr(lib, name)
    if name == "bool": return lib.tensor([[True, False, True], [False, True, True]])
    return lib.tensor([[1, 0, 3], [4, 250 if name.startswith("u") else -5, 6]]).to(dtype)


def plain(x):
    """Anything loaded, as comparable Python values."""
    if hasattr(x, "untyped_storage") or hasattr(x, "requires_grad"):
        wide = x.detach()
        if "bfloat16" in str(x.dtype): wide = wide.float()
        if str(x.dtype) in ("torch.uint16", "torch.uint32", "torch.uint64"): data = wide.numpy().tolist()
        else: data = wide.tolist()
        return type(x).__name__, str(x.dtype), tuple(x.shape), tuple(x.stride()), x.requires_grad, data
    if isinstance(x, dict): return type(x).__name__, [(k, plain(v)) for k, v in x.items()]
    if isinstance(x, (list, tuple)): return type(x).__name__, [plain(v) for v in x]
    if isinstance(x, set): return type(x).__name__, sorted(x)       # a set prints in the order its strings happen to hash
    return str(x)


def rich(lib, nn):
    x = lib.arange(24.0).reshape(2, 3, 4)
    return collections.OrderedDict(
        x=x, t=x.transpose(0, 2), row=x[1], col=x[:, 1, ::2], one=lib.tensor(3.5), empty=lib.zeros(0, 3), none=None, text="grün", raw=b"\0\xff",
        big=2 ** 70,
        numbers=[1, -2, 3.5, True, 1j], nested={"a": (1, [2, {"b": lib.ones(2)}])}, size=x.shape, dtype=lib.bfloat16, device=lib.device("cuda:1"),
        p=nn.Parameter(lib.ones(2, 2)), frozen=nn.Parameter(lib.ones(2), requires_grad=False), leaf=lib.ones(2).requires_grad_(),
        ints={3: "three", None: 1},
        names={"x", "y"}, counter=collections.Counter("abca"), **{d: values(lib, d) for d in DTYPES})


def theirs():
    return rich(torch, torch.nn)


def ours():
    from forno import nn
    return rich(ft, nn)


def through(save, load, obj, tmp_path):
    path = tmp_path / "file.pt"
    save(obj, path)
    return load(path)


def test_both_ways(tmp_path):
    expected = plain(theirs())
    assert plain(through(fs.save, torch.load, ours(), tmp_path)) == expected
    assert plain(through(torch.save, fs.load, theirs(), tmp_path)) == expected
    assert plain(through(fs.save, fs.load, ours(), tmp_path)) == expected
    assert plain(through(fs.save, lambda p: torch.load(p, mmap=True), ours(), tmp_path)) == expected
    assert plain(through(torch.save, lambda p: fs.load(p, mmap=True), theirs(), tmp_path)) == expected
    assert plain(through(lambda o, p: torch.save(o, p, _use_new_zipfile_serialization=False), fs.load, theirs(), tmp_path)) == expected
    assert plain(through(torch.save, lambda p: fs.load(p, weights_only=False), theirs(), tmp_path)) == expected
    for protocol in (3, 4, 5):
        assert plain(through(lambda o, p: fs.save(o, p, pickle_protocol=protocol), lambda p: torch.load(p, weights_only=False), ours(),
                             tmp_path)) == expected
        assert plain(through(lambda o, p: torch.save(o, p, pickle_protocol=protocol), fs.load, theirs(), tmp_path)) == expected


@pytest.mark.parametrize("load,save,make", [(fs.load, torch.save, theirs), (fs.load, fs.save, ours), (torch.load, fs.save, ours)])
def test_shared_memory_stays_shared(tmp_path, load, save, make):
    got = through(save, load, make(), tmp_path)
    got["x"][1, 1, 2] = -1.0
    assert got["t"][2, 1, 1].item() == got["row"][1, 2].item() == got["col"][1, 1].item() == -1.0
    assert os.path.getsize(tmp_path / "file.pt") < 12000


def test_state_dict_of_a_model_and_its_optimizer(tmp_path):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.LazyLinear(2))
    model(torch.randn(2, 3, 5, 5)).sum().backward()
    opt = torch.optim.Adam(model.parameters())
    opt.step()
    saved = {"model": model.state_dict(), "opt": opt.state_dict(), "epoch": 3}
    got = through(torch.save, fs.load, saved, tmp_path)
    assert plain(got) == plain(saved) and got["model"]._metadata == saved["model"]._metadata
    back = through(fs.save, torch.load, got, tmp_path)
    model.load_state_dict(back["model"])
    opt.load_state_dict(back["opt"])


def test_whole_modules_both_ways(tmp_path):
    """A module saved as an object is a module of the other library there; only when its code is trusted."""
    from forno import nn
    path = tmp_path / "m.pt"

    def build(nn): return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.BatchNorm1d(3), nn.Dropout(0.5)).eval()
    theirs, ours = build(torch.nn), build(nn)
    torch.save(theirs, path)
    with pytest.raises(pickle.UnpicklingError, match="add_safe_globals"): fs.load(path)
    got = fs.load(path, weights_only=False)
    assert type(got) is nn.Sequential and repr(got) == repr(theirs)
    np.testing.assert_allclose(got(ft.ones(4, 2)).detach().numpy(), theirs(torch.ones(4, 2)).detach().numpy(), rtol=1e-5)
    fs.save(ours, path)
    back = torch.load(path, weights_only=False)
    np.testing.assert_allclose(back(torch.ones(4, 2)).detach().numpy(), ours(ft.ones(4, 2)).detach().numpy(), rtol=1e-5)
    with fs.safe_globals([nn.Sequential, nn.Linear, nn.ReLU, nn.BatchNorm1d, nn.Dropout]): assert repr(fs.load(path)) == repr(ours)


def test_pickle_and_deepcopy():
    x = ft.arange(6.0).reshape(2, 3).requires_grad_()
    (x * 2).sum().backward()
    for t in (x.detach(), x, x.detach().t(), ft.tensor([1.5, 2.5], dtype=ft.bfloat16), ft.zeros(0, 2), ft.tensor(True)):
        for protocol in (2, 5):
            got = pickle.loads(pickle.dumps(t, protocol=protocol))
            assert got.tolist() == t.tolist() and got.dtype == t.dtype and got.shape == t.shape and got.requires_grad == t.requires_grad
    base = ft.arange(6.0)
    made = copy.deepcopy({"x": x, "again": x, "base": base, "row": base[2:4], "flip": base.reshape(2, 3).t(), "p": nn_parameter(base)})
    made["base"].add_(10)
    assert made["row"].tolist() == [12.0, 13.0] and made["flip"].tolist() == [[10.0, 13.0], [11.0, 14.0], [12.0, 15.0]] and base.tolist()[0] == 0.0
    assert made["x"] is made["again"] and made["x"] is not x and made["x"].requires_grad and made["x"].is_leaf
    assert made["x"].grad.tolist() == [[2.0] * 3] * 2 and made["x"].grad is not x.grad and made["p"].requires_grad
    with pytest.raises(RuntimeError, match="graph leaves"): copy.deepcopy(x * 2)
    assert copy.copy(base).tolist() == base.tolist()


def nn_parameter(t):
    from forno import nn
    return nn.Parameter(t)


def test_layout_of_the_file(tmp_path):
    """64-byte alignment, PyTorch's entries, a stored zip that other tools read and whose checksums are right."""
    path = tmp_path / "model.v1.pt"
    fs.save({"a": ft.ones(3), "b": ft.zeros(1000), "c": ft.ones(2).t()}, path)
    with zipfile.ZipFile(path) as z:
        names = z.namelist()
        assert z.testzip() is None
        assert names == [f"model.v1/{n}" for n in ("data.pkl", ".format_version", ".storage_alignment", "byteorder", "data/0", "data/1", "data/2",
                                                   "version")]
        assert z.read("model.v1/byteorder") == b"little" and z.read("model.v1/version") == b"3\n"
        pickletools.dis(z.read("model.v1/data.pkl"), io.StringIO())
    assert all(e.start % 64 == 0 for e in archive.entries(memoryview(path.read_bytes())).values())
    torch.utils.serialization.config.load.calculate_storage_offsets = True
    try: assert plain(torch.load(path, mmap=True)["b"]) == plain(torch.zeros(1000))
    finally: torch.utils.serialization.config.load.calculate_storage_offsets = False


def test_zip64(tmp_path, monkeypatch):
    """The fields for sizes and offsets of 4 GiB, forced onto a small file, and more than 65535 entries."""
    path, obj = tmp_path / "wide.pt", {"a": ft.arange(500.0), "b": ft.ones(3)}
    with monkeypatch.context() as m:
        m.setattr(archive, "LIMIT", 100)
        fs.save(obj, path)
    assert b"PK\6\6" in path.read_bytes()
    for load in (fs.load, torch.load, lambda p: torch.load(p, mmap=True)):
        assert plain(load(path)) == plain(fs.load(path)) and len(load(path)["a"]) == 500
    with zipfile.ZipFile(path) as z: assert z.testzip() is None
    out = io.BytesIO()
    w = archive.Writer(out)
    for i in range(66000): w.add(f"top/{i}", b"")
    w.close()
    assert len(archive.entries(memoryview(out.getvalue()))) == 66000
    with zipfile.ZipFile(out) as z: assert len(z.namelist()) == 66000


def test_file_objects_and_names(tmp_path):
    buffer = io.BytesIO()
    fs.save([1, ft.ones(2)], buffer)
    buffer.seek(0)
    assert torch.load(buffer)[1].tolist() == [1.0, 1.0]
    buffer.seek(0)
    assert fs.load(buffer)[1].tolist() == [1.0, 1.0]

    class Pipe:
        def __init__(self): self.parts = []
        def write(self, data): self.parts.append(bytes(data))
    pipe = Pipe()
    fs.save({"a": ft.zeros(5)}, pipe)
    assert fs.load(io.BytesIO(b"".join(pipe.parts)))["a"].tolist() == [0.0] * 5
    fs.save(1, str(tmp_path / "ü.pt"))
    assert fs.load(str(tmp_path / "ü.pt")) == torch.load(tmp_path / "ü.pt") == 1
    with pytest.raises(AttributeError, match="'write'"): fs.save(1, 3)
    with pytest.raises(AttributeError, match="'read'"): fs.load(3)
    with pytest.raises(FileNotFoundError): fs.load(tmp_path / "none.pt")
    with pytest.raises(RuntimeError, match="does not exist"): fs.save(1, tmp_path / "no" / "file.pt")
    with pytest.raises(ValueError, match="mmap"): fs.load(buffer, mmap=True)


class Unsavable:
    def __reduce__(self): raise ValueError("not me")


def test_atomic(tmp_path, monkeypatch):
    """A failed save leaves the old file and nothing else; permissions and symbolic links survive."""
    path = tmp_path / "a.pt"
    fs.save("old", path)
    os.chmod(path, 0o640)
    link = tmp_path / "link.pt"
    link.symlink_to(path)
    with pytest.raises(ValueError, match="not me"): fs.save(Unsavable(), path)
    with monkeypatch.context() as m:
        m.setattr(archive.Writer, "close", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError): fs.save("new", path)
    assert fs.load(path) == "old" and sorted(os.listdir(tmp_path)) == ["a.pt", "link.pt"]
    fs.save("new", link)
    assert link.is_symlink() and fs.load(path) == "new" and stat.S_IMODE(path.stat().st_mode) == 0o640
    fs.save(1, "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    held = fs.load(path)
    mapped = tmp_path / "m.pt"
    fs.save(ft.ones(5000), mapped)
    t = fs.load(mapped, mmap=True)
    t.add_(1)
    fs.save(ft.zeros(5000), mapped)
    assert t.sum().item() == 10000 and fs.load(mapped).sum().item() == 0 and held == "new"


def test_full_disk(tmp_path):
    """A file that may not grow ends like a disk that is full: an OSError, the old file as it was, nothing beside it."""
    path, big = tmp_path / "a.pt", {"w": ft.ones(100000)}
    fs.save("old", path)
    st.save_file({"w": ft.ones(2)}, tmp_path / "a.safetensors")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50000, limits[1]))
    try:
        for save in (lambda: fs.save(big, path), lambda: st.save_file(big, tmp_path / "a.safetensors"), lambda: fs.save(big, tmp_path / "new.pt")):
            with pytest.raises(OSError, match="File too large"): save()
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert fs.load(path) == "old" and st.load_file(tmp_path / "a.safetensors")["w"].tolist() == [1.0, 1.0]
    assert sorted(os.listdir(tmp_path)) == ["a.pt", "a.safetensors"]
    if os.path.exists("/dev/full"):
        with pytest.raises(OSError, match="No space left"): fs.save(big, "/dev/full")
        with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space left"): fs.save(big, full)


SAVING = """
import itertools, sys
import forno
for i in itertools.count(): forno.save({"w": forno.full((200000,), float(i)), "i": i}, sys.argv[1])
"""


def test_killed_while_saving(tmp_path):
    """Whenever the process dies, the file is a whole one."""
    path = tmp_path / "a.pt"
    for pause in (0.0, 0.02, 0.05):
        path.unlink(missing_ok=True)
        p = subprocess.Popen([sys.executable, "-c", SAVING, str(path)], env=os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2])})
        try:
            deadline = time.monotonic() + 60
            while not path.exists() and p.poll() is None and time.monotonic() < deadline: time.sleep(0.005)
            time.sleep(pause)
        finally: p.kill()
        p.wait()
        got = fs.load(path)
        assert (got["w"] == got["i"]).all().item() and len(got["w"]) == 200000


def test_map_location(tmp_path):
    """A file from a GPU machine: an error that says what to do, and every form of map_location."""
    path = tmp_path / "gpu.pt"
    fs.save(ft.ones(3), path)
    raw = path.read_bytes()
    gpu = _rewritten(raw, b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0")
    with pytest.raises(RuntimeError, match="map_location=torch.device"): fs.load(io.BytesIO(gpu))
    for where in ("cpu", ft.device("cpu"), {"cuda:0": "cpu"}, lambda storage, loc: storage.cpu(), lambda storage, loc: "cpu"):
        assert fs.load(io.BytesIO(gpu), map_location=where).tolist() == [1.0] * 3
    assert fs.load(path, map_location=lambda s, loc: None).tolist() == [1.0] * 3


def _rewritten(raw, old=None, new=None, pkl=None, drop=(), extra=()):
    """The same archive with another data.pkl, or without some entries."""
    out = io.BytesIO()
    w = archive.Writer(out)
    with zipfile.ZipFile(io.BytesIO(raw)) as z:
        for name in z.namelist():
            data = z.read(name)
            if name.endswith("data.pkl"): data = pkl if pkl is not None else data.replace(old, new) if old else data
            if not any(name.endswith(d) for d in drop): w.add(name, data)
    for name, data in extra: w.add(name, data)
    w.close()
    return out.getvalue()


def archived(pkl, extra=()):
    out = io.BytesIO()
    w = archive.Writer(out)
    for name, data in (("archive/data.pkl", pkl), ("archive/byteorder", b"little"), *extra): w.add(name, data)
    w.close()
    return io.BytesIO(out.getvalue())


class Evil:
    def __init__(self, f, *args): self.f, self.args = f, args
    def __reduce__(self): return self.f, self.args


def touch_file(path): pathlib.Path(path).touch()


def test_code_is_not_run(tmp_path):
    flag = tmp_path / "pwned"
    for protocol in (2, 4):
        for attack in (Evil(os.system, f"touch {flag}"), Evil(eval, f"open({str(flag)!r}, 'w')"), Evil(touch_file, str(flag)),
                       Evil(getattr, "a", "upper")):
            with pytest.raises(pickle.UnpicklingError, match="(?s)was not an allowed global.*weights_only=False"):
                fs.load(archived(pickle.dumps([1, attack], protocol=protocol)))
    assert not flag.exists()
    fs.load(archived(pickle.dumps(Evil(touch_file, str(flag)), protocol=2)), weights_only=False)
    assert flag.exists()                       # only when asked


class Config:
    def __init__(self): self.lr = 0.1


def test_own_classes_can_be_allowed(tmp_path):
    fs.save({"c": Config()}, tmp_path / "c.pt")
    with pytest.raises(pickle.UnpicklingError, match="add_safe_globals"): fs.load(tmp_path / "c.pt")
    with fs.safe_globals([Config]): assert fs.load(tmp_path / "c.pt")["c"].lr == 0.1
    with pytest.raises(pickle.UnpicklingError): fs.load(tmp_path / "c.pt")
    assert fs.load(tmp_path / "c.pt", weights_only=False)["c"].lr == 0.1
    assert fs.get_safe_globals() == []


ATTACKS = {
    "call of a result": b"\x80\x02ccollections\nOrderedDict\n)R)R.",
    "call of text": b"\x80\x02X\x01\0\0\0a)R.",
    "state on a global": b"\x80\x02ccollections\nOrderedDict\n}X\x01\0\0\0aK\x01sb.",
    "bytearray of a terabyte": b"\x80\x02c__builtin__\nbytearray\n\x8a\x06\0\0\0\0\0\x01\x85R.",
    "memo far out": b"\x80\x02K\x01r\xff\xff\xff\x7f0j\xff\xff\xff\x7e.",
    "text longer than the file": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "negative length": b"\x80\x02\x8b\xff\xff\xff\xffabc.",
    "stack underflow": b"\x80\x02R.", "no mark": b"\x80\x02u.", "two values": b"\x80\x02K\x01K\x02.", "nothing": b"\x80\x02.",
    "no stop": b"\x80\x02K\x01",
    "old protocol": b"I1\n.", "set items of a list": b"\x80\x02]K\x01K\x02s.", "instance": b"\x80\x02(ios\nsystem\n.",
    "unhashable key": b"\x80\x02}]K\x01s.", "deep key": b"\x80\x02}" + b")" + b"\x85" * 100000 + b"K\x01s.",
    "storage out of nowhere": b"\x80\x02(X\x07\0\0\0storageK\x01tQ.",
    "tensor on text": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(X\x01\0\0\0aK\0))\x89}tR.",
    "extension registry": b"\x80\x02\x82\x01.", "new of a function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)\x81.",
    "dunder state": b"\x80\x02ccollections\nOrderedDict\n)R}X\x09\0\0\0__class__K\x01sb0K\x01X.",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_hostile_pickles(name):
    with pytest.raises(pickle.UnpicklingError): fs.load(archived(ATTACKS[name]))


def storage(key=b"0", numel=3, kind=b"FloatStorage"):
    return (b"(X\x07\0\0\0storagectorch\n" + kind + b"\nX" + struct.pack("<I", len(key)) + key + b"X\x03\0\0\0cpuJ" + struct.pack("<i",
                                                                                                                                  numel) + b"tQ")


def tensor(offset, size, stride, **kw):
    ints = lambda xs: b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", x) for x in xs) + b"t"
    return (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage(**kw) + b"\x8a\x08" + struct.pack("<q", offset) + ints(size) + ints(stride)
            + b"\x89ccollections\nOrderedDict\n)RtR.")


@pytest.mark.parametrize("pkl", [
    tensor(0, (4,), (1,)), tensor(1, (3,), (1,)), tensor(-1, (2,), (1,)), tensor(0, (2,), (2 ** 40,)), tensor(0, (2, 2), (1,)),
    tensor(0, (-1,), (1,)),
    tensor(2, (2,), (-1,)), tensor(0, (2 ** 62, 2 ** 62), (1, 1)), tensor(0, (1,) * 65, (1,) * 65), tensor(0, (3,), (1,), numel=4),
    tensor(0, (1,), (1,), numel=-1),
    tensor(0, (3,), (1,), key=b"7"), tensor(0, (3,), (1,), key=b"../../0"), tensor(0, (3,), (1,), kind=b"DoubleStorage"), tensor(5, (0,), (1,)),
])
def test_tensors_outside_their_storage(pkl):
    with pytest.raises((RuntimeError, pickle.UnpicklingError)): fs.load(archived(pkl, [("archive/data/0", b"\0" * 12)]))


def test_valid_twin_of_the_hostile_tensors():
    assert fs.load(archived(tensor(1, (2,), (1,)), [("archive/data/0", struct.pack("<3f", 1, 2, 3))])).tolist() == [2.0, 3.0]


def test_damaged_archives(tmp_path):
    path = tmp_path / "a.pt"
    fs.save({"a": ft.arange(100.0)}, path)
    raw = path.read_bytes()
    for cut in (1, 3, 10, 100, len(raw) // 2, len(raw) - 30, len(raw) - 1):
        with pytest.raises((RuntimeError, pickle.UnpicklingError, EOFError)): fs.load(io.BytesIO(raw[:cut]))
    with pytest.raises(EOFError): fs.load(io.BytesIO(b""))
    with pytest.raises(RuntimeError, match="magic number|older formats"): fs.load(io.BytesIO(b"hello world"))
    with pytest.raises(RuntimeError, match="missing"): fs.load(io.BytesIO(_rewritten(raw, drop=["data/0"])))
    with pytest.raises(RuntimeError, match="no data.pkl"): fs.load(io.BytesIO(_rewritten(raw, drop=["data.pkl"])))
    with pytest.raises(RuntimeError, match="TorchScript"): fs.load(io.BytesIO(_rewritten(raw, extra=[("a/constants.pkl", b"")])))
    with pytest.raises(RuntimeError, match="two entries"): fs.load(io.BytesIO(_rewritten(raw, extra=[("a/version", b"")])))
    squeezed = io.BytesIO()
    with zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as z: z.writestr("archive/data.pkl", b"\0" * 10 ** 7)
    with pytest.raises(RuntimeError, match="compressed.*zip -0"): fs.load(io.BytesIO(squeezed.getvalue()))
    with pytest.raises(RuntimeError, match="overlap"): fs.load(io.BytesIO(_bomb()))


def _bomb(copies=50, size=10000):
    """Many directory entries for the same bytes."""
    out = io.BytesIO()
    w = archive.Writer(out)
    w.add("archive/data.pkl", b"N.")
    w.add("archive/data/0", b"\0" * size)
    w.directory += [(f"archive/data/{i}".encode(), *w.directory[-1][1:]) for i in range(1, copies)]
    w.close()
    return out.getvalue()


def test_random_damage_never_crashes(tmp_path):
    path = tmp_path / "a.pt"
    fs.save({"a": ft.arange(20.0), "b": [ft.ones(2, 3).t(), (1, "x")]}, path)
    raw, rng, failed = path.read_bytes(), random.Random(0), 0
    for _ in range(600):
        bad = bytearray(raw)
        for _ in range(rng.choice([1, 1, 3, 20])): bad[rng.randrange(len(bad))] = rng.randrange(256)
        try: fs.load(io.BytesIO(bytes(bad)))
        except (RuntimeError, pickle.UnpicklingError, EOFError): failed += 1
    assert failed > 100


def test_random_pickles_never_crash():
    rng = random.Random(1)
    good = pickle.dumps({"a": [1, 2.5, ("x", b"y")], "b": collections.OrderedDict(c={1, 2})}, protocol=2)
    for _ in range(1500):
        bad = bytearray(good)
        for _ in range(rng.choice([1, 2, 8])): bad[rng.randrange(2, len(bad))] = rng.randrange(256)
        try: fs.load(archived(bytes(bad)))
        except (RuntimeError, pickle.UnpicklingError, EOFError): pass


def test_big_endian_files():
    raw = struct.pack(">3f", 1, 2, 3)
    out = io.BytesIO()
    w = archive.Writer(out)
    for name, data in (("archive/data.pkl", tensor(0, (3,), (1,))), ("archive/byteorder", b"big"), ("archive/data/0", raw)): w.add(name, data)
    w.close()
    assert fs.load(io.BytesIO(out.getvalue())).tolist() == [1.0, 2.0, 3.0]


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(NotImplementedError): fs.save(1, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    with pytest.raises((pickle.PicklingError, AttributeError)): fs.save(lambda: 1, tmp_path / "a.pt")
    assert os.listdir(tmp_path) == []
    model = np.arange(3)
    fs.save(model, tmp_path / "n.pt")
    assert torch.load(tmp_path / "n.pt", weights_only=False).tolist() == [0, 1, 2]
