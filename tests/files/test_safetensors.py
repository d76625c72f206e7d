"""Safetensors files against the reference implementation, both ways, and against damaged headers."""
import json
import os
import random
import struct

import pytest
import safetensors.torch
import torch

import forno.utils.safetensors as ours
from forno.framework import api as ft

DTYPES = ["uint8", "int8", "int16", "uint16", "float16", "bfloat16", "int32", "uint32", "float32", "float64", "int64", "uint64", "bool"]


def tensors(lib):
    out = {f"t.{d}": lib.tensor([[1, 0, 3], [0, 5, 6]]).to(getattr(lib, d)) for d in DTYPES}
    return out | {"scalar": lib.tensor(2.5), "empty": lib.zeros(0, 4), "grün": lib.arange(100.0)}


def plain(d): return {k: (str(v.dtype), tuple(v.shape), v.double().tolist()) for k, v in sorted(d.items())}


def test_both_ways(tmp_path):
    path = tmp_path / "a.safetensors"
    expected = plain(tensors(torch))
    ours.save_file(tensors(ft), path, {"made by": "forno"})
    assert plain(safetensors.torch.load_file(path)) == expected == plain(ours.load_file(path)) == plain(ours.load(path.read_bytes()))
    with safetensors.safe_open(path, "pt") as f: assert f.metadata() == {"made by": "forno"}
    safetensors.torch.save_file(tensors(torch), path, {"made by": "others"})
    assert plain(ours.load_file(str(path))) == expected
    with ours.safe_open(path) as f:
        assert f.metadata() == {"made by": "others"} and f.keys() == sorted(expected) and f.get_tensor("scalar").item() == 2.5
        with pytest.raises(ours.SafetensorError, match="does not contain"): f.get_tensor("absent")
    assert plain(safetensors.torch.load(ours.save(tensors(ft)))) == expected
    assert ours.load(ours.save({})) == {}
    assert ours.save({"w": ft.arange(3.0), "b": ft.ones(2)}) == safetensors.torch.save({"w": torch.arange(3.0), "b": torch.ones(2)})


def test_mapped_tensors_are_writable_and_leave_the_file_alone(tmp_path):
    path = tmp_path / "a.safetensors"
    ours.save_file({"w": ft.zeros(5000)}, path)
    w = ours.load_file(path)["w"]
    w.add_(1)
    assert w.sum().item() == 5000 and ours.load_file(path)["w"].sum().item() == 0
    ours.save_file({"w": ft.ones(3)}, path)                # the mapped file lives on
    assert w.sum().item() == 5000 and os.listdir(tmp_path) == ["a.safetensors"]


def test_refused_tensors(tmp_path):
    x = ft.arange(6.0).reshape(2, 3)
    for bad, kind, match in (({"a": x.t()}, ValueError, "non contiguous"), ({"a": x, "b": x[:1]}, RuntimeError, "share memory"),
                             ([x], ValueError, "Expected a dict"),
                             ({"a": 1}, ValueError, "expected torch.Tensor"), ({"a": x.to(ft.complex128)}, ours.SafetensorError, "can't hold")):
        with pytest.raises(kind, match=match): ours.save_file(bad, tmp_path / "a.safetensors")
    with pytest.raises(ValueError): ours.save({"a": x}, {"n": 1})
    assert os.listdir(tmp_path) == []


def file(header, data=b"\0" * 12, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="F32", shape=(3,), offsets=(0, 12)): return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize("raw", [
    b"", b"abc", file({}, b"", 200_000_000), file({}, b"", 50), file(b"{"), file(b"[]", b""), file(b"\xff\xfe"), file(b"[" * 100000, b""),
    file({"a": 3}), file({"a": entry("F99")}),
    file({"a": entry(["F32"])}), file({"a": entry(shape=(4,))}), file({"a": entry(shape=(-3,))}), file({"a": entry(shape=(3.0,))}),
    file({"a": entry(offsets=(0, 16), shape=(4,))}),
    file({"a": entry(offsets=(12, 0))}), file({"a": entry(offsets=(4, 16))}), file({"a": entry(), "b": entry()}),
    file({"a": entry("F32", (2,), (0, 8))}),
    file({"a": entry("F32", (2,), (0, 8)), "b": entry("F32", (2,), (4, 12))}), file({"__metadata__": {"a": 1}}, b""),
    file({"a": entry(shape=(2 ** 61, 2 ** 61))}),
    file(b'{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}, "a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}'),
    file({"a": {"dtype": "F32", "shape": [3]}}), file({}, b"123"),
])
def test_damaged_files(raw, tmp_path):
    with pytest.raises(ours.SafetensorError): ours.load(raw)
    (tmp_path / "a").write_bytes(raw)
    with pytest.raises(ours.SafetensorError): ours.load_file(tmp_path / "a")


def test_unaligned_data():
    header = json.dumps({"a": entry("U8", (1,), (0, 1)), "b": entry("F32", (2,), (1, 9))}).encode()
    got = ours.load(struct.pack("<Q", len(header)) + header + b"\x07" + struct.pack("<2f", 1, 2))
    assert got["a"].tolist() == [7] and got["b"].tolist() == [1.0, 2.0]


def test_random_damage_never_crashes():
    raw, rng = ours.save({"w": ft.arange(30.0), "b": ft.ones(2, 3)}), random.Random(0)
    for _ in range(1000):
        bad = bytearray(raw)
        for _ in range(rng.choice([1, 2, 10])): bad[rng.randrange(len(bad))] = rng.randrange(256)
        try: ours.load(bytes(bad))
        except ours.SafetensorError: pass
