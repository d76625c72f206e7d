"""The driver's functions as C declares them, and the structures they read.

Comes in: nothing. Goes out: `PROTOTYPES`, name without "cu" -> Prototype, and `Struct` classes. One line of the table is one function: the CUDA version whose
declaration this is, and its arguments in C's order. The version matters: C has several functions under one name (`cuMemAlloc` is the symbol
`cuMemAlloc_v2` since 3.2, `cuStreamGetCaptureInfo` is `_v2` from 11.3 and `_v3` from 12.3), and cuGetProcAddress gives the newest one that is not newer
than the version it is asked for. So it is asked for just this one. None needs more than CUDA 12.0, except where the driver's floor says so.

Functions with a stream are those of the legacy default stream (stream 0 waits for all, all wait for it), not their `_ptsz` twins.
"""
from __future__ import annotations

import ctypes
from ctypes import c_char, c_char_p, c_float, c_int, c_size_t, c_ubyte, c_uint, c_uint64, c_ushort, c_void_p
from dataclasses import dataclass


class IpcHandle(ctypes.Structure):
    """CUipcMemHandle and CUipcEventHandle, which C passes as they are; Python gives and gets 64 bytes."""
    _fields_ = [("raw", c_ubyte * 64)]

    @classmethod
    def from_param(cls, value): return value if isinstance(value, cls) else cls.from_buffer_copy(value)


# Types of arguments: what Python gives to C (handles and addresses of the host may be None, bytes, arrays or a Struct), and what C writes for Python.
INPUT = {"ipc": IpcHandle, "int": c_int, "uint": c_uint, "u8": c_ubyte, "u16": c_ushort, "u64": c_uint64, "size": c_size_t, "float": c_float, "address": c_uint64,
         "handle": c_void_p, "ptr": c_void_p, "text": c_char_p}
OUTPUT = INPUT | {"handle": c_size_t, "ptr": c_size_t, "uuid": c_char * 16, "ipc": c_char * 64}
CHARS = 256                                    # bytes of a `chars` output, which is two arguments in C: where to, and how many

# `>` marks what the function writes; `?` a function that answers whether something is done (CUDA_ERROR_NOT_READY is an answer, not an error).
TABLE = """
# ---- the driver itself
Init                        2000   uint flags
DriverGetVersion            2020   >int version
GetProcAddress             12000   text symbol, >ptr function, int version, u64 flags, >int status
GetErrorName                6000   int code, >text name
GetErrorString              6000   int code, >text description

# ---- devices and contexts
DeviceGetCount              2000   >int count
DeviceGet                   2000   >int device, int ordinal
DeviceGetName               2000   >chars name, int device
DeviceGetPCIBusId           4010   >chars id, int device
DeviceGetUuid              11040   >uuid uuid, int device
DeviceTotalMem              3020   >size nbytes, int device
DeviceGetAttribute          2000   >int value, int attribute, int device
DeviceCanAccessPeer         4000   >int can, int device, int peer
DeviceGetP2PAttribute       8000   >int value, int attribute, int device, int peer
DevicePrimaryCtxRetain      7000   >handle context, int device
DevicePrimaryCtxRelease    11000   int device
DevicePrimaryCtxReset      11000   int device
DevicePrimaryCtxGetState    7000   int device, >uint flags, >int active
CtxSetCurrent               4000   handle context
CtxGetCurrent               4000   >handle context
CtxGetDevice                2000   >int device
CtxSynchronize              2000
CtxEnablePeerAccess         4000   handle context, uint flags
CtxDisablePeerAccess        4000   handle context
CtxGetStreamPriorityRange   5050   >int least, >int greatest
CtxGetLimit                 3010   >size value, int limit
CtxSetLimit                 3010   int limit, size value
ProfilerStart               4000
ProfilerStop                4000

# ---- memory
MemGetInfo                  3020   >size free, >size total
MemAlloc                    3020   >address at, size nbytes
MemFree                     3020   address at
MemAllocAsync              11020   >address at, size nbytes, handle stream
MemFreeAsync               11020   address at, handle stream
MemAllocFromPoolAsync      11020   >address at, size nbytes, handle pool, handle stream
MemPoolCreate              11020   >handle pool, ptr props
MemPoolDestroy             11020   handle pool
MemPoolSetAttribute        11020   handle pool, int attribute, ptr value
MemPoolGetAttribute        11020   handle pool, int attribute, >u64 value
MemPoolTrimTo              11020   handle pool, size keep
MemPoolSetAccess           11020   handle pool, ptr access, size count
DeviceGetDefaultMemPool    11020   >handle pool, int device
DeviceGetMemPool           11020   >handle pool, int device
DeviceSetMemPool           11020   int device, handle pool
MemHostAlloc                2020   >ptr at, size nbytes, uint flags
MemFreeHost                 2000   ptr at
MemHostRegister             6050   ptr at, size nbytes, uint flags
MemHostUnregister           4000   ptr at
MemHostGetDevicePointer     3020   >address device, ptr at, uint flags
PointerGetAttribute         4000   >u64 value, int attribute, address at
MemcpyHtoD                  3020   address to, ptr from, size nbytes
MemcpyDtoH                  3020   ptr to, address from, size nbytes
MemcpyAsync                 4000   address to, address from, size nbytes, handle stream
MemcpyHtoDAsync             3020   address to, ptr from, size nbytes, handle stream
MemcpyDtoHAsync             3020   ptr to, address from, size nbytes, handle stream
MemcpyDtoDAsync             3020   address to, address from, size nbytes, handle stream
MemcpyPeerAsync             4000   address to, handle tocontext, address from, handle fromcontext, size nbytes, handle stream
Memcpy2DAsync               3020   ptr copy, handle stream
MemsetD8Async               3020   address at, u8 value, size count, handle stream
MemsetD16Async              3020   address at, u16 value, size count, handle stream
MemsetD32Async              3020   address at, uint value, size count, handle stream

# ---- addresses and memory apart from each other
MemAddressReserve          10020   >address at, size nbytes, size alignment, address wish, u64 flags
MemAddressFree             10020   address at, size nbytes
MemCreate                  10020   >u64 memory, size nbytes, ptr props, u64 flags
MemRelease                 10020   u64 memory
MemMap                     10020   address at, size nbytes, size offset, u64 memory, u64 flags
MemUnmap                   10020   address at, size nbytes
MemSetAccess               10020   address at, size nbytes, ptr access, size count
MemGetAllocationGranularity 10020  >size granularity, ptr props, int option
MemExportToShareableHandle 10020   ptr shared, u64 memory, int kind, u64 flags
MemImportFromShareableHandle 10020 >u64 memory, ptr shared, int kind
IpcGetMemHandle             4010   >ipc shared, address at
IpcOpenMemHandle           11000   >address at, ipc shared, uint flags
IpcCloseMemHandle           4010   address at
IpcGetEventHandle           4010   >ipc shared, handle event
IpcOpenEventHandle          4010   >handle event, ipc shared
MulticastCreate            12010   >u64 multicast, ptr props
MulticastAddDevice         12010   u64 multicast, int device
MulticastBindMem           12010   u64 multicast, size offset, u64 memory, size memoryoffset, size nbytes, u64 flags
MulticastGetGranularity    12010   >size granularity, ptr props, int option

# ---- streams and events
StreamCreateWithPriority    5050   >handle stream, uint flags, int priority
StreamDestroy               4000   handle stream
StreamSynchronize           2000   handle stream
StreamQuery?                2000   handle stream
StreamWaitEvent             3020   handle stream, handle event, uint flags
StreamWaitValue32          11070   handle stream, address at, uint value, uint flags
StreamWriteValue32         11070   handle stream, address at, uint value, uint flags
StreamGetPriority           5050   handle stream, >int priority
StreamGetFlags              5050   handle stream, >uint flags
StreamGetCtx                9020   handle stream, >handle context
LaunchHostFunc             10000   handle stream, ptr function, ptr data
EventCreate                 2000   >handle event, uint flags
EventDestroy                4000   handle event
EventRecord                 2000   handle event, handle stream
EventQuery?                 2000   handle event
EventSynchronize            2000   handle event
EventElapsedTime            2000   >float milliseconds, handle start, handle end

# ---- code
LibraryLoadData            12000   >handle library, ptr code, ptr options, ptr values, uint count, ptr libraryoptions, ptr libraryvalues, uint librarycount
LibraryUnload              12000   handle library
LibraryGetKernel           12000   >handle kernel, handle library, text name
LibraryGetGlobal           12000   >address at, >size nbytes, handle library, text name
KernelGetFunction          12000   >handle function, handle kernel
KernelSetAttribute         12000   int attribute, int value, handle kernel, int device
ModuleLoadDataEx            2010   >handle module, ptr code, uint count, ptr options, ptr values
ModuleUnload                2000   handle module
ModuleGetFunction           2000   >handle function, handle module, text name
ModuleGetGlobal             3020   >address at, >size nbytes, handle module, text name
FuncGetAttribute            2020   >int value, int attribute, handle function
FuncSetAttribute            9000   handle function, int attribute, int value
LinkCreate                  6050   uint count, ptr options, ptr values, >handle link
LinkAddData                 6050   handle link, int kind, ptr data, size nbytes, text name, uint count, ptr options, ptr values
LinkComplete                5050   handle link, >ptr cubin, >size nbytes
LinkDestroy                 5050   handle link
LaunchKernel                4000   handle function, uint gridx, uint gridy, uint gridz, uint blockx, uint blocky, uint blockz,
                                   uint shared, handle stream, ptr params, ptr extra
LaunchKernelEx             11060   ptr config, handle function, ptr params, ptr extra
LaunchCooperativeKernel     9000   handle function, uint gridx, uint gridy, uint gridz, uint blockx, uint blocky, uint blockz,
                                   uint shared, handle stream, ptr params
OccupancyMaxActiveBlocksPerMultiprocessor 6050 >int blocks, handle function, int threads, size shared
OccupancyMaxActiveClusters 11070   >int clusters, handle function, ptr config
TensorMapEncodeTiled       12000   ptr map, int dtype, uint rank, ptr base, ptr sizes, ptr strides, ptr box,
                                   ptr steps, int interleave, int swizzle, int promotion, int fill
TensorMapEncodeIm2col      12000   ptr map, int dtype, uint rank, ptr base, ptr sizes, ptr strides, ptr lower, ptr upper, uint channels, uint pixels,
                                   ptr steps, int interleave, int swizzle, int promotion, int fill

# ---- graphs
StreamBeginCapture         10010   handle stream, int mode
StreamEndCapture           10000   handle stream, >handle graph
StreamIsCapturing          10000   handle stream, >int status
StreamGetCaptureInfo       11030   handle stream, >int status, >u64 id, >handle graph, >ptr dependencies, >size count
ThreadExchangeStreamCaptureMode 10010 ptr mode
GraphCreate                10000   >handle graph, uint flags
GraphDestroy               10000   handle graph
GraphAddKernelNode         12000   >handle node, handle graph, ptr dependencies, size count, ptr params
GraphAddNode               12020   >handle node, handle graph, ptr dependencies, size count, ptr params
GraphAddDependencies       10000   handle graph, ptr from, ptr to, size count
GraphGetNodes              10000   handle graph, ptr nodes, ptr count
GraphNodeGetType           10000   handle node, >int kind
GraphKernelNodeGetParams   12000   handle node, ptr params
GraphInstantiateWithFlags  11040   >handle exec, handle graph, u64 flags
GraphLaunch                10000   handle exec, handle stream
GraphUpload                11010   handle exec, handle stream
GraphExecUpdate            12000   handle exec, handle graph, ptr result
GraphExecKernelNodeSetParams 12000 handle exec, handle node, ptr params
GraphExecDestroy           10000   handle exec
GraphDebugDotPrint         11030   handle graph, text path, uint flags
GraphConditionalHandleCreate 12030 >u64 conditional, handle graph, handle context, uint value, uint flags
"""


@dataclass(frozen=True, slots=True)
class Argument:
    name: str
    type: str
    out: bool = False


@dataclass(frozen=True, slots=True)
class Prototype:
    name: str
    version: int                               # 1000 × major + 10 × minor, as the driver counts
    arguments: tuple[Argument, ...]
    asks: bool = False                         # NOT_READY is an answer

    @property
    def inputs(self) -> tuple[Argument, ...]: return tuple(a for a in self.arguments if not a.out)

    @property
    def outputs(self) -> tuple[Argument, ...]: return tuple(a for a in self.arguments if a.out)

    def __str__(self):
        """As Python calls it: `free, total = MemGetInfo()`."""
        made = ", ".join(a.name for a in self.outputs) or ("ready" if self.asks else "")
        call = f"{self.name}({', '.join(a.name for a in self.inputs)})"
        return f"{made} = {call}" if made else call


def _parse(line: str) -> Prototype:
    name, version, *rest = line.split(None, 2)
    arguments = []
    for part in rest[0].split(",") if rest else ():
        kind, argument = part.split()
        arguments.append(Argument(argument, kind.lstrip(">"), kind.startswith(">")))
    return Prototype(name.rstrip("?"), int(version), tuple(arguments), name.endswith("?"))


PROTOTYPES: dict[str, Prototype] = {p.name: p for p in (_parse(line) for line in TABLE.replace(",\n", ",").splitlines() if line and not line.startswith("#"))}


def version_name(version: int) -> str:
    """12020 -> 12.2"""
    return f"{version // 1000}.{version % 1000 // 10}"


# ---------------------------------------------------------------- structures
class Struct(ctypes.Structure):
    """Passed where C wants its address, as it is: `driver.LaunchKernelEx(config, function, params, None)`."""

    @property
    def _as_parameter_(self): return ctypes.byref(self)

    def __repr__(self): return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n, *_ in self._fields_)})"


def _fields(text: str, **types) -> list:
    """"uint x y, ptr p" -> ctypes' list of fields."""
    known = INPUT | {"ptr": c_void_p, "handle": c_void_p} | types
    return [(name, known[kind]) for kind, *names in (part.split() for part in text.split(",")) for name in names]


class Dim3(Struct): _fields_ = _fields("uint x y z")


class AttributeValue(ctypes.Union):
    """CUlaunchAttributeValue"""
    _fields_ = [("pad", c_char * 64), ("number", c_int), ("cluster", Dim3), ("unsigned", c_uint)]


class LaunchAttribute(Struct):
    """CUlaunchAttribute: `id` is one of ATTRIBUTE's numbers."""
    _fields_ = [("id", c_int), ("pad", c_char * 4), ("value", AttributeValue)]


class LaunchConfig(Struct):
    """CUlaunchConfig"""
    _fields_ = _fields("uint gridx gridy gridz blockx blocky blockz shared, handle stream, attributes attributes, uint count", attributes=ctypes.POINTER(LaunchAttribute))


class Memcpy2D(Struct):
    """CUDA_MEMCPY2D_v2. Memory types: 1 host, 2 device, 4 either."""
    _fields_ = _fields("size fromx fromy, int fromtype, ptr fromhost, address from_, handle fromarray, size frompitch, "
                       "size tox toy, int totype, ptr tohost, address to, handle toarray, size topitch, size width height")


class Memcpy3D(Struct):
    """CUDA_MEMCPY3D_v2"""
    _fields_ = _fields("size fromx fromy fromz fromlevel, int fromtype, ptr fromhost, address from_, handle fromarray, ptr reserved0, size frompitch fromheight, "
                       "size tox toy toz tolevel, int totype, ptr tohost, address to, handle toarray, ptr reserved1, size topitch toheight, "
                       "size width height depth")


class MemLocation(Struct):
    """CUmemLocation: type 1 is a device, 2 the host."""
    _fields_ = _fields("int type id")


class AllocationFlags(Struct): _fields_ = _fields("u8 compression rdma, u16 usage, reserved reserved", reserved=c_ubyte * 4)


class AllocationProp(Struct):
    """CUmemAllocationProp: type 1 is pinned; handles 1 is a POSIX file descriptor."""
    _fields_ = _fields("int type handles, location location, ptr win32, flags flags", location=MemLocation, flags=AllocationFlags)


class AccessDesc(Struct):
    """CUmemAccessDesc: flags 0 none, 1 read, 3 read and write."""
    _fields_ = _fields("location location, int flags", location=MemLocation)


class PoolProps(Struct):
    """CUmemPoolProps"""
    _fields_ = _fields("int type handles, location location, ptr win32, size maximum, u16 usage, reserved reserved", location=MemLocation, reserved=c_ubyte * 54)


class MulticastProp(Struct):
    """CUmulticastObjectProp"""
    _fields_ = _fields("uint devices, size nbytes, u64 handles flags")


class TensorMap(Struct):
    """CUtensorMap: 128 opaque bytes that must lie on a multiple of 64 (`aligned`)."""
    _fields_ = [("words", c_uint64 * 16)]

    @classmethod
    def aligned(cls) -> TensorMap:
        room = (c_char * (128 + 64))()
        out = cls.from_buffer(room, -ctypes.addressof(room) % 64)
        return out


class KernelNodeParams(Struct):
    """CUDA_KERNEL_NODE_PARAMS_v2 (and _v3)"""
    _fields_ = _fields("handle function, uint gridx gridy gridz blockx blocky blockz shared, ptr params extra, handle kernel context")


class MemcpyNodeParams(Struct):
    """CUDA_MEMCPY_NODE_PARAMS"""
    _fields_ = _fields("int flags reserved, handle context, copy copy", copy=Memcpy3D)


class MemsetNodeParams(Struct):
    """CUDA_MEMSET_NODE_PARAMS_v2"""
    _fields_ = _fields("address at, size pitch, uint value itemsize, size width height, handle context")


class HostNodeParams(Struct):
    """CUDA_HOST_NODE_PARAMS_v2"""
    _fields_ = _fields("ptr function data")


class ChildGraphParams(Struct):
    """CUDA_CHILD_GRAPH_NODE_PARAMS"""
    _fields_ = _fields("handle graph, int ownership")


class ConditionalParams(Struct):
    """CUDA_CONDITIONAL_NODE_PARAMS: type 0 if, 1 while, 2 switch."""
    _fields_ = _fields("u64 conditional, int type, uint size, ptr graphs, handle context")


class _NodeUnion(ctypes.Union):
    _fields_ = [("reserved", c_uint64 * 29), ("kernel", KernelNodeParams), ("memcpy", MemcpyNodeParams), ("memset", MemsetNodeParams),
                ("host", HostNodeParams), ("graph", ChildGraphParams), ("conditional", ConditionalParams)]


class NodeParams(Struct):
    """CUgraphNodeParams: `type` is one of NODE's numbers and says which member counts."""
    _anonymous_ = ("members",)
    _fields_ = [("type", c_int), ("reserved0", c_int * 3), ("members", _NodeUnion), ("reserved2", c_uint64)]


class ExecUpdateResult(Struct):
    """CUgraphExecUpdateResultInfo"""
    _fields_ = _fields("int result, handle node fromnode")


# ---------------------------------------------------------------- numbers that several files need
NODE = {"kernel": 0, "memcpy": 1, "memset": 2, "host": 3, "graph": 4, "empty": 5, "wait": 6, "record": 7, "alloc": 10, "free": 11, "conditional": 13}
LAUNCH = {"cooperative": 2, "cluster": 4, "programmatic": 6, "priority": 8}               # CU_LAUNCH_ATTRIBUTE_…
FUNCTION = {"threads": 0, "static_shared": 1, "constant": 2, "local": 3, "registers": 4, "ptx": 5, "binary": 6, "cache": 7, "dynamic_shared": 8, "carveout": 9,
            "cluster_must": 10, "cluster_x": 11, "cluster_y": 12, "cluster_z": 13, "nonportable_cluster": 14, "cluster_policy": 15}      # CU_FUNC_ATTRIBUTE_…
JIT = {"registers": 0, "threads": 1, "wall_time": 2, "info_log": 3, "info_size": 4, "error_log": 5, "error_size": 6, "opt": 7, "target_from_context": 8,
       "target": 9, "fallback": 10, "debug": 11, "verbose": 12, "line_info": 13, "cache": 14}                                          # CU_JIT_…
POINTER = {"context": 1, "memory_type": 2, "device_pointer": 3, "host_pointer": 4, "sync_memops": 6, "buffer_id": 7, "is_managed": 8, "device": 9,
           "range_start": 11, "range_size": 12, "mapped": 13, "access": 16, "mempool": 17}                                              # CU_POINTER_ATTRIBUTE_…
POOL = {"reuse_event": 1, "reuse_opportunistic": 2, "reuse_dependencies": 3, "release_threshold": 4, "reserved": 5, "reserved_high": 6, "used": 7, "used_high": 8}
DEVICE = {"block_threads": 1, "block_x": 2, "block_y": 3, "block_z": 4, "grid_x": 5, "grid_y": 6, "grid_z": 7, "block_shared": 8, "constant": 9, "warp": 10,
          "pitch": 11, "block_registers": 12, "clock": 13, "sms": 16, "timeout": 17, "integrated": 18, "map_host": 19, "compute_mode": 20, "concurrent": 31,
          "ecc": 32, "pci_bus": 33, "pci_device": 34, "tcc": 35, "memory_clock": 36, "bus_width": 37, "l2": 38, "sm_threads": 39, "engines": 40, "unified": 41,
          "pci_domain": 50, "major": 75, "minor": 76, "priorities": 78, "sm_shared": 81, "sm_registers": 82, "managed": 83, "multi_gpu_board": 84,
          "double_ratio": 87, "pageable": 88, "concurrent_managed": 89, "preemption": 90, "cooperative": 95, "optin_shared": 97,
          "vmm": 102, "fd_handles": 103, "sm_blocks": 106, "reserved_shared": 111, "host_register": 99, "pools": 115, "cluster": 120, "ipc": 125,
          "tensor_map": 127, "multicast": 132}                                                                                         # CU_DEVICE_ATTRIBUTE_…
