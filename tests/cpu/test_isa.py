"""Which instruction set is chosen, and what is refused."""
import os

import pytest

from forno.cpu import isa

HASWELL = frozenset(isa._BASE + isa._AVX2 + isa._MORE2)
ZEN5 = HASWELL | set(isa._AVX512) | {"avx512bf16", "avx512vnni"}


def test_native_takes_the_widest_complete_level():
    assert isa.choose("native", ZEN5, "x86_64").level == "avx512"
    assert isa.choose("native", ZEN5 - {"avx512vl"}, "x86_64").level == "avx2"
    assert isa.choose("native", HASWELL - {"f16c"}, "AMD64").level == "baseline"
    assert isa.choose("native", frozenset({"bf16", "lse"}), "aarch64").level == "neon"


def test_a_forced_level_has_only_its_features():
    narrow = isa.choose("avx2", ZEN5, "x86_64")
    on = {f[1:] for f in narrow.features.split(",") if f[0] == "+"}
    assert on == HASWELL and narrow.vector_bytes == 32 and not narrow.has("avx512bf16")
    base = isa.choose("baseline", ZEN5, "x86_64")
    assert "-avx" in base.features.split(",") and base.vector_bytes == 16 and not base.has("fma")


def test_optional_features_only_if_the_host_has_them():
    wide = isa.choose("native", ZEN5, "x86_64")
    assert wide.has("avx512bf16") and not wide.has("amx-bf16") and "-amx-bf16" in wide.features and '"512"' in wide.attributes


def test_gathers_are_loads_one_by_one_on_amd():
    assert "+prefer-no-gather" in isa.choose("native", ZEN5 | {"sse4a"}, "x86_64").features and "gather" not in isa.choose("native", ZEN5, "x86_64").features


@pytest.mark.parametrize("wanted, have, machine, words", [
    ("avx512", HASWELL, "x86_64", "avx512f, avx512bw"), ("avx2", frozenset({"sse2"}), "x86_64", "lacks"),
    ("avx2", frozenset(), "arm64", "FORNO_CPU=avx2"), ("native", frozenset(), "riscv64", "riscv64")])
def test_what_is_refused(wanted, have, machine, words):
    with pytest.raises(RuntimeError, match=words): isa.choose(wanted, have, machine)


def test_this_machine():
    assert isa.level in isa.describe() and isa.vector_bytes in (16, 32, 64)
    assert 1 <= isa.cores() <= os.cpu_count()
    l1, l2, l3 = isa.caches()
    assert 4096 < l1 < l2 <= max(l3, l2) < 1 << 36


def test_affinity_counts(script):
    assert script("import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nfrom forno.cpu import isa, threads\n"
                  "print(isa.cores(), threads.get_num_threads())").stdout == "1 1\n"


@pytest.mark.parametrize("level", ["baseline", "avx2", "avx512"])
def test_forced_levels_make_code(script, level):
    if level != "baseline" and not isa.has("avx2" if level == "avx2" else "avx512f"): pytest.skip("the host hasn't got it")
    out = script("from forno.cpu import code, isa\n"
                 "t = kernel('''  %p = load ptr, ptr %vals\n  %v = load <16 x float>, ptr %p, align 4\n  %w = fmul <16 x float> %v, %v\n"
                 "  store <16 x float> %w, ptr %p, align 4''')\n"
                 "a = code.assembly(t, 'k'); print('zmm' in a, 'ymm' in a, call(code.load(store(5), 'k')))", FORNO_CPU=level).stdout
    assert out == {"baseline": "False False 5\n", "avx2": "False True 5\n", "avx512": "True False 5\n"}[level]
