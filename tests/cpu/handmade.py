"""Small kernels written by hand, and calls of them without a plan."""
import ctypes

from forno.cpu import isa


def kernel(body: str, extra: str = "", name: str = "k") -> str:
    return f"{extra}\ndefine void @{name}(ptr %ctx, ptr %vals, ptr %words) #0 {{\n{body}\n  ret void\n}}\nattributes #0 = {{ {isa.attributes} }}\n"


def store(value: int) -> str:
    """*vals[0] = value"""
    return kernel(f"  %p = load ptr, ptr %vals\n  store i64 {value}, ptr %p")


def call(address: int, out=None) -> int:
    """Runs a kernel whose vals[0] is a word; gives the word."""
    word = ctypes.c_int64(out or 0)
    vals = ctypes.c_void_p(ctypes.addressof(word))
    ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)(address)(None, ctypes.addressof(vals), None)
    return word.value


def bump(position: str = "0", amount: str = "1") -> str:
    """Atomically adds to the word that vals[words[position]] points to: counts how many threads ran a step."""
    return kernel(f"""  %w.p = getelementptr i64, ptr %words, i64 {position}
  %w = load i64, ptr %w.p
  %v.p = getelementptr i64, ptr %vals, i64 %w
  %p = load ptr, ptr %v.p
  %o = atomicrmw add ptr %p, i64 {amount} seq_cst""")
