"""Kernel nouns: what the planner writes and the kernel floor compiles. Concrete numbers here; the kernel floor decides which of them
become constants of the machine code and which are words it reads at run time.

A **Nest** is one loop nest over `axes` (parallel) and `window` (reduced), with a body of values in order. A value that depends on a
window axis exists once per inner iteration ("inner"); a Reduce of it, and everything computed from Reduces alone, exists once per
parallel index ("outer") and may be used by later inner values: softmax, layer norm and batch norm are single nests with several passes.

Operand k of a kernel is a buffer or a number of this run; strides and offsets are in elements of the operand's dtype.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .dtype import dtype
from .op import Op


@dataclass(frozen=True, slots=True)
class Operand:
    """A kernel's argument. mode: 'r' read, 'w' written, 'rw' both, 'n' a Python number (float64 or int64 bits, complex: two)."""
    dtype: dtype
    mode: str


@dataclass(frozen=True, slots=True)
class Bound:
    """0 <= offset + sum(coeffs * index) < size, or the guarded load gives `other` instead of touching memory."""
    coeffs: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Indirect:
    """An address term known only at run time: value `index` (int64, negative counts from the end) times `stride`.

    An index outside [-size, size) is reported through the error word and read as 0.
    """
    index: int
    stride: int
    size: int


# ---- values of a nest's body; each has a dtype and may name earlier values by position
@dataclass(frozen=True, slots=True)
class Load:
    operand: int
    dtype: dtype
    strides: tuple[int, ...]                   # one per axis, then one per window axis
    offset: int = 0
    at: tuple[Indirect, ...] = ()
    bounds: tuple[Bound, ...] = ()
    other: float = 0.0


@dataclass(frozen=True, slots=True)
class Index:
    """The position along one axis (int64): offset + sum(coeffs * index)."""
    coeffs: tuple[int, ...]
    offset: int = 0
    dtype: dtype = None


@dataclass(frozen=True, slots=True)
class Const:
    value: bool | int | float | complex
    dtype: dtype


@dataclass(frozen=True, slots=True)
class Number:
    """A Python number of this run, converted to `dtype`."""
    operand: int
    dtype: dtype


@dataclass(frozen=True, slots=True)
class Apply:
    """`op.emit` on earlier values, which already have one compute dtype. `dtype` is what emit returns."""
    op: Op
    args: tuple[int, ...]
    dtype: dtype

    @property
    def checked(self) -> bool: return self.op.check is not None and self.op.check.applies(self.dtype)


@dataclass(frozen=True, slots=True)
class Cast:
    arg: int
    dtype: dtype


@dataclass(frozen=True, slots=True)
class Reduce:
    """combine: sum prod max min argmax argmin any all. NaN wins max and min; arg* give the int64 position in row-major window order."""
    combine: str
    arg: int
    dtype: dtype


@dataclass(frozen=True, slots=True)
class Store:
    operand: int
    arg: int
    strides: tuple[int, ...]                   # zeros on window axes when the value is an outer one
    offset: int = 0
    dtype: dtype = None


@dataclass(frozen=True, slots=True)
class Nest:
    axes: tuple[int, ...]
    window: tuple[int, ...]
    operands: tuple[Operand, ...]
    body: tuple
    label: str = ""

    @property
    def checks(self) -> bool:
        """Can values make it fail?"""
        return any([v.__class__ is Apply and v.checked for v in self.body])


# ---- tile programs
@dataclass(frozen=True, slots=True)
class Matrix:
    """A batched matrix operand: element (b, i, j) lies at offset + batch strides · b + i*rows + j*cols."""
    dtype: dtype
    batch: tuple[int, ...]
    rows: int
    cols: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Gemm:
    """c[b] = a[b] @ b[b] (+ bias), operands 0, 1 → 2. `epilogue` is a Nest over (batch…, m, n) whose operand 0 is the product tile.

    `rounding`: factors of float32 may be rounded to bfloat16 if that is faster; sums may not."""
    batch: tuple[int, ...]
    m: int
    n: int
    k: int
    a: Matrix
    b: Matrix
    c: Matrix
    operands: tuple[Operand, ...]
    epilogue: Nest | None = None
    label: str = ""
    rounding: bool = False


@dataclass(frozen=True, slots=True)
class Conv:
    """One of a convolution's three products, NC(D)(H)W, always three spatial axes (missing ones have length 1).

    which = 'forward' (x, w → y), 'input' (dy, w → dx) or 'weight' (dy, x → dw). Operand dims as in torch: x (n, c, *in), w (k, c/groups, *taps), y (n, k, *out).
    All operands are contiguous. bias (forward only): operand 3 when `bias`. `alike`: the same bits whatever the number of threads.
    `epilogue` (forward only, without `bias`): a Nest over (n, k, pixels) as a Gemm's, whose first store goes to y as it lies.
    """
    which: str
    n: int
    c: int
    k: int
    groups: int
    size: tuple[int, int, int]                 # input's spatial shape
    out: tuple[int, int, int]
    taps: tuple[int, int, int]
    stride: tuple[int, int, int]
    padding: tuple[int, int, int]
    dilation: tuple[int, int, int]
    dtype: dtype
    bias: bool
    operands: tuple[Operand, ...]
    label: str = ""
    alike: bool = False
    epilogue: Nest | None = None

    @property
    def batch(self) -> tuple[int, ...]: return (self.n,)


@dataclass(frozen=True, slots=True)
class Native:
    """A routine with its own loop: `name` finds its generator, `spec` (hashable, few values) selects its code, `words` are run-time ints.

    `operands`: the row's operands in order, then the result ('w'). If operand 0 is 'rw' the routine turns it into the result, which is no operand then.
    """
    name: str
    spec: tuple
    words: tuple[int, ...]
    operands: tuple[Operand, ...]
    work: int = 0                              # elements touched, to choose the number of threads
    label: str = ""


@dataclass(frozen=True, slots=True)
class Host:
    """An opaque row's step: the plan returns to Python for it."""
    op: Op
    attr: object
    operands: tuple[Operand, ...]
    views: tuple = ()
    label: str = ""


# ---- what the kernel floor gives back
@dataclass(frozen=True, slots=True)
class Program:
    """Machine code, ready to call: `void name(ptr ctx, ptr vals, ptr words)` (kernel/abi.py)."""
    name: str
    address: int
    text: object = field(default="", repr=False)  # str() of it is the LLVM IR, for show


@dataclass(frozen=True, slots=True)
class DeviceLaunch:
    """A kernel of a GPU with one kernel's numbers. Its parameters are 8-byte words: operands (addresses; numbers, complex ones as two), then `words`.

    `late`: which of `words` whoever launches fills in: (position, "error": where failures are reported, "step": this step's number, "scratch": memory).
    """
    name: str
    ptx: str = field(repr=False)
    words: tuple[int, ...]
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int = 0                            # bytes of dynamic shared memory
    late: tuple[tuple[int, str], ...] = ()
    scratch: int = 0                           # bytes of global memory of its own, which those of `then` see, too
    then: tuple[DeviceLaunch, ...] = ()        # what is launched right behind it, on the same operands
    bytes: int = 0
    flops: int = 0
    keeps: None = None                         # nothing: see Keeps
    by: str = ""                               # who computes it (kernel/nvptx/providers.py)


@dataclass(frozen=True, slots=True)
class DeviceCall:
    """A library's function that queues work on a GPU: `call(device number, stream, operands, scratch)`. Operands are addresses, or words of numbers; `scratch` is the
    address of so many bytes of its own, which stay as long as the work in that stream needs them."""
    name: str
    call: Callable[[int, int, tuple[int, ...], int], None] = field(repr=False)
    scratch: int = 0
    bytes: int = 0
    flops: int = 0
    keeps: None = None
    by: str = ""


@dataclass(frozen=True, slots=True)
class Keeps:
    """What a kernel makes of an operand's values alone (packed weights), in memory that may be given again as long as they are the same. words[word] is -1, or
    the position in the value table of that memory's address: 0 is none, an odd one (the address + 1) is to be filled, any other is filled.
    """
    operand: int
    word: int
    nbytes: int
    form: tuple                                # equal forms of equal values are equal memory


@dataclass(frozen=True, slots=True)
class Choices:
    """Other words for a Launch's program, with which it gives the same bits. Which are the quickest is a matter of the machine.

    `kernel`: what is computed; equal ones share an answer. `names()`: what there is besides "", the usual words. `make(name)`: words, bytes of
    private and of shared scratch.
    """
    kernel: str
    names: Callable[[], tuple[str, ...]]
    make: Callable[[str], tuple[tuple[int, ...], int, int]]


@dataclass(frozen=True, slots=True)
class Launch:
    """A Program with one kernel's numbers. `words` follow the operands' positions in the plan's value table."""
    program: Program
    words: tuple[int, ...]
    parallel: bool                             # worth more than one thread
    scratch: int = 0                           # bytes private to each thread
    shared: int = 0                            # bytes all threads see
    bytes: int = 0
    flops: int = 0
    keeps: Keeps | None = None
    choices: Choices | None = None
