"""What tests of the simulated machine share: kernels in PTX, and a small program's view of a driver."""
import ctypes

import numpy as np

from forno.gpu.sim import Machine

HEAD = ".version 7.5\n.target sm_80\n.address_size 64\n"
INDEX = """ mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x; mad.lo.s32 %r4, %r1, %r2, %r3;
 cvt.u64.u32 %i, %r4; setp.ge.u64 %p1, %i, %n; @%p1 bra $done; shl.b64 %o, %i, 2;
"""


def entry(name, pointers, body):
    """A kernel over n floats: `pointers` become registers %a0 …, each at this thread's element; then n."""
    params = ", ".join(f".param .u64 p{k}" for k in range(pointers + 1))
    loads = "".join(f" ld.param.u64 %b{k}, [p{k}];" for k in range(pointers)) + f" ld.param.u64 %n, [p{pointers}];"
    places = "".join(f" add.s64 %a{k}, %b{k}, %o;" for k in range(pointers))
    regs = ".reg .b64 %a<4>, %b<4>, %n, %i, %o; .reg .b32 %r<8>; .reg .f32 %f<8>; .reg .pred %p<2>;"
    return f".visible .entry {name}({params})\n{{\n {regs}\n{loads}\n{INDEX}{places}\n {body}\n$done:\n ret;\n}}\n"


PTX = (HEAD + ".global .align 4 .u32 counter = 7;\n"
       + entry("scale", 1, "ld.global.f32 %f1, [%a0]; add.f32 %f2, %f1, %f1; st.global.f32 [%a0], %f2;")
       + entry("one", 1, "ld.global.f32 %f1, [%a0]; add.f32 %f2, %f1, 0f3F800000; st.global.f32 [%a0], %f2;")
       + entry("move", 2, "ld.global.f32 %f1, [%a1]; st.global.f32 [%a0], %f1;")
       + entry("sum", 3, "ld.global.f32 %f1, [%a1]; ld.global.f32 %f2, [%a2]; add.f32 %f3, %f1, %f2; st.global.f32 [%a0], %f3;")
       + entry("beyond", 1, "ld.global.f32 %f1, [%a0+4]; st.global.f32 [%a0+4], %f1;")
       + entry("crooked", 1, "ld.global.f32 %f1, [%a0+2]; st.global.f32 [%a0], %f1;")
       + entry("quit", 1, "trap;")
       + """.visible .entry hungry(.param .u64 p0)
{
 .reg .b64 %a; .reg .f32 %f;
 .shared .align 16 .b8 room[4096];
 ld.param.u64 %a, [p0]; ld.global.f32 %f, [%a]; st.shared.f32 [room], %f; ret;
}
""").encode() + b"\0"


class Program:
    """One device of a machine, or of a real `driver`: arrays, streams and launches in a line each."""

    def __init__(self, machine=None, device=0, driver=None, **options):
        self.machine = None if driver else machine or Machine(**options)
        self.d = driver or self.machine.driver()
        self.context = self.d.DevicePrimaryCtxRetain(device)
        self.use()
        self.keep = []
        self.module = self.d.ModuleLoadDataEx(PTX, 0, None, None)

    def use(self): self.d.CtxSetCurrent(self.context)

    def stream(self, blocking=False): return self.d.StreamCreateWithPriority(0 if blocking else 1, 0)

    def event(self): return self.d.EventCreate(0)

    def array(self, values, stream=0):
        values = np.asarray(values, np.float32)
        at = self.d.MemAlloc(values.nbytes)
        self.d.MemcpyHtoDAsync(at, values.ctypes.data, values.nbytes, stream)
        self.d.StreamSynchronize(stream)
        return at

    def read(self, at, n, stream=0):
        out = np.empty(n, np.float32)
        self.d.MemcpyDtoHAsync(out.ctypes.data, at, out.nbytes, stream)
        return out

    def function(self, name): return self.d.ModuleGetFunction(self.module, name.encode())

    def params(self, *values):
        words = (ctypes.c_uint64 * len(values))(*values)
        self.keep.append(words)
        places = (ctypes.c_void_p * len(values))(*[ctypes.addressof(words) + 8 * k for k in range(len(values))])
        self.keep.append(places)
        return places

    def launch(self, name, *values, stream=0, threads=64, shared=0):
        n = values[-1]
        self.d.LaunchKernel(self.function(name), -(-n // threads), 1, 1, threads, 1, 1, shared, stream, self.params(*values), None)

    def wait(self, stream, other):
        """`stream` waits for all that `other` holds now."""
        event = self.event()
        self.d.EventRecord(event, other)
        self.d.StreamWaitEvent(stream, event, 0)


def code(f, *args) -> int:
    """The error code of a call; 0: it worked."""
    from forno.gpu.errors import CudaError
    try: f(*args)
    except CudaError as e: return e.code
    return 0
