"""LLVM IR text to object code.

Comes in: IR text, the function wanted, a symbol for it, an optimisation level. Goes out: a relocatable object whose only global symbol is that
one and whose undefined symbols are all allowed, or `BadCode`. LLVM ends the process when it meets code it can't select or link, so what is known
to lead there is refused first.
"""
import contextlib
import ctypes
import re
import struct

import llvmlite.binding as llvm

# what kernels may call: memory moves that LLVM writes by itself, and libm
MEMORY = ("memcpy", "memset", "memmove")
_LIBM = """acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp2 expm1 fabs floor fma fmax fmin fmod hypot ldexp
lgamma log log10 log1p log2 logb nearbyint pow remainder rint round roundeven sin sinh sqrt tan tanh tgamma trunc""".split()
ALLOWED = frozenset(MEMORY) | frozenset(_LIBM) | {f"{n}f" for n in _LIBM}

_INLINE_ASM = re.compile(r'(?m)^\s*module\s+asm\b|\basm\s+(?:(?:sideeffect|alignstack|inteldialect|unwind)\s+)*"')
_NEEDS = (("llvm.x86.avx512", "avx512f"), ("llvm.x86.tile", "amx-tile"), ("llvm.x86.tdp", "amx-tile"), ("llvm.x86.ldtile", "amx-tile"),
          ("llvm.x86.avx2", "avx2"), ("llvm.x86.avx.", "avx"), ("llvm.x86.fma", "fma"), ("llvm.x86.vcvt", "f16c"),
          ("llvm.aarch64.sve", "sve"), ("llvm.aarch64", "neon"), ("llvm.x86", "sse2"))


class BadCode(RuntimeError):
    """IR that can't become machine code here; the message names the kernel and the reason."""


def _unlocked(name: str):
    """A function of llvmlite's library without the lock that llvmlite holds around every call: LLVM lets threads work on modules of different
    contexts at the same time, and these functions are where the time goes."""
    locked = getattr(llvm.ffi.lib, name)
    out = getattr(_library, name)
    out.argtypes, out.restype = locked.argtypes, locked.restype
    return out


_library = ctypes.CDLL(llvm.ffi.lib._name)
_emit, _run_module, _run_function = map(_unlocked, ("LLVMPY_TargetMachineEmitToMemory", "LLVMPY_RunNewModulePassManager", "LLVMPY_RunNewFunctionPassManager"))


class Compiler:
    """One target, for one thread. Objects use the small code model: a linker must load all sections of one object next to each other."""

    def __init__(self, cpu: str, features: str):
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.cpu, self.features = cpu, features
        self.on = {f[1:] for f in features.split(",") if f.startswith("+")}
        self.target = llvm.Target.from_default_triple()
        self.builders = {}

    def machine(self, opt: int):
        return self.target.create_target_machine(cpu=self.cpu, features=self.features, opt=opt, reloc="pic", codemodel="small", jit=True)

    def compile(self, text: str, name: str, symbol: str, opt: int, extra=()) -> bytes:
        """Object code of function `name`, called `symbol` there. `extra`: symbols it may call besides ALLOWED."""
        with parsed(text, name) as module: code = _object(self._optimise(module, text, name, symbol, opt, extra), module)
        _check_symbols(code, name, symbol, ALLOWED.union(extra))
        return code

    def assembly(self, text: str, name: str, opt: int) -> str:
        with parsed(text, name) as module: return self._optimise(module, text, name, name, opt, None).emit_assembly(module)

    def _optimise(self, module, text, name, symbol, opt, extra):
        """Makes the module ready for the target machine that is returned."""
        machine, builder = self._builder(opt)
        self._check(module, text, name, extra)
        for value in (*module.functions, *module.global_variables):
            if not value.is_declaration and value.name != name and not value.name.startswith("llvm."): value.linkage = "internal"
        wanted = module.get_function(name)
        wanted.linkage, wanted.name = "external", symbol
        module.triple, module.data_layout = self.target.triple, str(machine.target_data)
        if opt >= 2: _run_module(builder.getModulePassManager(), module, builder)
        else: tidy(module, builder, opt)
        return machine

    def _builder(self, opt):
        if opt not in self.builders:
            machine = self.machine(opt)
            tuning = llvm.create_pipeline_tuning_options(speed_level=(1, 1, 1, 3)[opt])
            tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_interleaving = False
            self.builders[opt] = machine, llvm.create_pass_builder(machine, tuning)
        return self.builders[opt]

    def _check(self, module, text, name, extra):
        """Everything that would end the process later, as an exception now."""
        if _INLINE_ASM.search(text): raise BadCode(f"{name}: inline assembly is not allowed in kernels")
        if "thread_local" in text: raise BadCode(f"{name}: thread_local variables are not allowed in kernels; scratch is per thread")
        for value in (*module.functions, *module.global_variables):
            if not value.is_declaration: continue
            if not value.name.startswith("llvm."):
                if extra is not None and value.name not in ALLOWED and value.name not in extra:
                    raise BadCode(f"{name}: calls '{value.name}', which kernels may not use")
                continue
            needs = next((feature for prefix, feature in _NEEDS if value.name.startswith(prefix)), None)
            if needs and needs not in self.on: raise BadCode(f"{name}: {value.name} needs {needs}, which this target has not")


def tidy(module, builder, opt: int = 1):
    """Level 0: inlining alone. 1: what text from a builder needs (allocas to registers, arithmetic folded); LLVM's own O1 gives the same object
    for our kernels at five times the time. 2 and 3 are LLVM's O1 and O3, for long scalar code. Never LLVM's vectorisers: our vectors are explicit.
    Pass managers are made anew for each module: llvmlite's don't survive a second run."""
    inline = llvm.create_new_module_pass_manager()
    inline.add_always_inliner_pass()
    _run_module(inline, module, builder)
    if not opt: return
    for f in module.functions:
        if f.is_declaration: continue
        clean = llvm.create_new_function_pass_manager()
        clean.add_sroa_pass()
        clean.add_instruction_combine_pass()
        clean.add_simplify_cfg_pass()
        _run_function(clean, f, builder)


@contextlib.contextmanager
def parsed(text: str, name: str):
    """The module of a text. It is closed before its context: an exception's frames would be collected in any order, and a module without its context ends
    the process."""
    if "\0" in text: raise BadCode(f"{name}: IR text with a zero character")
    with llvm.create_context() as context:
        try: module = llvm.parse_assembly(text, context)
        except RuntimeError as e: raise BadCode(f"{name}: {str(e).strip()}") from None
        with module:
            try:
                module.verify()
                defined = not module.get_function(name).is_declaration
            except NameError: defined = False
            except RuntimeError as e: raise BadCode(f"{name}: {str(e).strip()}") from None
            if not defined: raise BadCode(f"the IR text defines no function '{name}'")
            yield module


def _object(machine, module) -> bytes:
    lib = llvm.ffi.lib
    with llvm.ffi.OutputString() as said:
        buffer = _emit(machine, module, 1, said)
        if not buffer: raise BadCode(str(said))
    try: return ctypes.string_at(lib.LLVMPY_GetBufferStart(buffer), lib.LLVMPY_GetBufferSize(buffer))
    finally: lib.LLVMPY_DisposeMemoryBuffer(buffer)


def _check_symbols(code: bytes, name: str, symbol: str, allowed) -> None:
    """The object's own symbol table also has what the code generator added (library calls for half floats, 128-bit division, …)."""
    if code[:4] != b"\x7fELF" or code[4] != 2: return                        # Mach-O, COFF: the declarations were checked
    table, = struct.unpack_from("<Q", code, 0x28)
    size, count = struct.unpack_from("<HH", code, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", code, table + i * size) for i in range(count)]
    for kind, offset, nbytes, link in ((s[1], s[4], s[5], s[6]) for s in sections):
        if kind != 2: continue                                              # SHT_SYMTAB
        names = sections[link][4]
        for at in range(offset + 24, offset + nbytes, 24):                   # entry 0 is empty
            start, info, _, section = struct.unpack_from("<IBBH", code, at)
            if info >> 4 == 0: continue                                     # local
            text = code[names + start:code.index(b"\0", names + start)].decode()
            if section == 0 and text not in allowed:
                raise BadCode(f"{name}: machine code needs '{text}' from outside, which kernels may not use")
            if section and text != symbol: raise BadCode(f"{name}: machine code defines '{text}' besides the function wanted")

