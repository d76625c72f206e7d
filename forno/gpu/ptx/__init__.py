"""PTX on the processor: reads a module's text and runs its kernels with checks that no GPU has.

Comes in: PTX as LLVM writes it. Goes out: the kernels' effects on memory, what they touched, or a `Fault` that names block, thread and PTX line. A kernel is
translated to the host's LLVM IR once and then runs as machine code, one thread at a time up to the next barrier or warp collective, in a seeded random
order. It knows nothing of drivers, streams or tensors. What it can't run yet (clusters, mbarrier, TMA, wgmma, tcgen05) raises NotImplementedError with the line.
"""
from .parse import SyntaxFault
from .program import Entry, Fault, Memory, Module, Program, Touched
