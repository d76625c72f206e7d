"""Texts whose machine code is known are never written; what they depend on is complete."""
import pytest

from forno.cpu import code, isa

from .handmade import call, store

PROGRAM = """
import forno as torch
torch.manual_seed(0)
x = torch.rand(4, 3, 9, 9)
w = torch.rand(5, 3, 3, 3, requires_grad=True)
y = torch.nn.functional.conv2d(x, w, padding=1).relu().flatten(1)
loss = torch.softmax(y @ torch.rand(405, 7) / 50, 1).square().sum()
loss.backward()
print(loss.item(), w.grad.sort().values.sum().item(), torch.rand(50, 8)[torch.arange(9)].sum().item())
"""
UNWRITTEN = """
from forno.kernel.text import Writer
def module(self): raise AssertionError("a text was written")
Writer.module = module
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(code, "cache", code.Cache(str(tmp_path / "texts"), 1 << 30))


def written(number: int, structure, wrote: list):
    def write():
        wrote.append(number)
        return store(number), ("notes", number, (True, None))
    return code.Text(write, structure)


def test_a_known_program_writes_no_text(script):
    first = script(PROGRAM).stdout
    assert script(UNWRITTEN + PROGRAM).stdout == first


def test_structures_are_complete(script):
    """FORNO_CHECK writes every text again and compares."""
    first = script(PROGRAM).stdout
    assert script(PROGRAM, FORNO_CHECK="1").stdout == first


def test_one_folder_serves_processors_of_two_kinds(script):
    first = script(PROGRAM).stdout.split()
    again = script(PROGRAM, FORNO_CPU="baseline" if isa.level != "neon" else "native").stdout.split()
    assert [float(a) for a in again] == pytest.approx([float(a) for a in first], rel=1e-4)


def test_notes_and_address_come_from_the_folder(folder):
    wrote: list = []
    for _ in range(2):
        text = written(901, "nine", wrote)
        assert call(code.load(text, "k")) == 901 and text.notes == ("notes", 901, (True, None))
    assert wrote == [901]
    assert call(code.load(written(902, "another nine", wrote), "k")) == 902
    assert call(code.load(written(903, "nine", wrote), "k", 2)) == 903 and wrote == [901, 902, 903], "another level is another text"


def test_other_source_writes_again(folder, monkeypatch):
    wrote: list = []
    code.load(written(911, "one", wrote), "k")
    monkeypatch.setattr(code, "_origin", lambda: b"another forno")
    assert call(code.load(written(912, "one", wrote), "k")) == 912
    monkeypatch.setattr(code, "_origin", lambda: b"")                 # no source to be read: nothing is known
    for _ in range(2): code.load(written(912, "one", wrote), "k")
    assert wrote == [911, 912, 912, 912]


def test_without_a_structure_a_text_is_always_written(folder):
    wrote: list = []
    for _ in range(2): assert call(code.load(written(921, None, wrote), "k")) == 921
    assert wrote == [921, 921]


def test_the_check_finds_what_a_structure_leaves_out(folder, monkeypatch):
    code.load(written(931, "same", []), "k")
    monkeypatch.setattr(code.flags, "CHECK", 1)
    with pytest.raises(AssertionError, match="the text of k depends on more than same"): code.load(written(932, "same", []), "k")


def test_machine_code_that_is_gone_is_made_from_the_text(folder, tmp_path):
    wrote: list = []
    text = written(941, "gone", wrote)
    code.load(text, "k")
    key = text.key("k", 1)
    (tmp_path / "texts" / key.hex()).unlink()
    del code._addresses[key]
    assert call(code.load(written(941, "gone", wrote), "k")) == 941 and wrote == [941, 941]
