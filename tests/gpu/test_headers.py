"""Structures and numbers of the driver's ABI are CUDA's own: a C program that includes cuda.h says where fields lie and what enumerators are."""
import ctypes
import functools
import glob
import os
import shutil
import subprocess
import tempfile

import pytest

from forno.gpu import prototypes
from forno.gpu.sim import code as simulated

INCLUDES = sorted(glob.glob("/usr/local/cuda*/include/cuda.h") + glob.glob(os.path.join(os.environ.get("CUDA_HOME", "/nowhere"), "include/cuda.h")))
pytestmark = pytest.mark.skipif(not INCLUDES or shutil.which("gcc") is None, reason="needs CUDA's headers (cuda.h in CUDA_HOME or /usr/local/cuda) and gcc")

_DIMS = "gridDimX gridDimY gridDimZ blockDimX blockDimY blockDimZ sharedMemBytes"
# of ours -> C's name, C's names of its fields
STRUCTS = {
    "LaunchConfig": ("CUlaunchConfig", f"{_DIMS} hStream attrs numAttrs"), "LaunchAttribute": ("CUlaunchAttribute", "id pad value"),
    "Memcpy2D": ("CUDA_MEMCPY2D", "srcXInBytes srcY srcMemoryType srcHost srcDevice srcArray srcPitch dstXInBytes dstY dstMemoryType dstHost dstDevice dstArray dstPitch WidthInBytes Height"),
    "Memcpy3D": ("CUDA_MEMCPY3D", "srcXInBytes srcY srcZ srcLOD srcMemoryType srcHost srcDevice srcArray reserved0 srcPitch srcHeight "
                                  "dstXInBytes dstY dstZ dstLOD dstMemoryType dstHost dstDevice dstArray reserved1 dstPitch dstHeight WidthInBytes Height Depth"),
    "MemLocation": ("CUmemLocation", "type id"), "AllocationProp": ("CUmemAllocationProp", "type requestedHandleTypes location win32HandleMetaData allocFlags"),
    "AccessDesc": ("CUmemAccessDesc", "location flags"), "PoolProps": ("CUmemPoolProps", "allocType handleTypes location win32SecurityAttributes maxSize usage reserved"),
    "MulticastProp": ("CUmulticastObjectProp", "numDevices size handleTypes flags"), "TensorMap": ("CUtensorMap", "opaque"),
    "KernelNodeParams": ("CUDA_KERNEL_NODE_PARAMS_v2", f"func {_DIMS} kernelParams extra kern ctx"), "MemcpyNodeParams": ("CUDA_MEMCPY_NODE_PARAMS", "flags reserved copyCtx copyParams"),
    "MemsetNodeParams": ("CUDA_MEMSET_NODE_PARAMS_v2", "dst pitch value elementSize width height ctx"), "HostNodeParams": ("CUDA_HOST_NODE_PARAMS_v2", "fn userData"),
    "ChildGraphParams": ("CUDA_CHILD_GRAPH_NODE_PARAMS", "graph"), "ConditionalParams": ("CUDA_CONDITIONAL_NODE_PARAMS", "handle type size phGraph_out ctx"),
    "NodeParams": ("CUgraphNodeParams", "type reserved0 kernel reserved2"), "ExecUpdateResult": ("CUgraphExecUpdateResultInfo", "result errorNode errorFromNode"),
}
DEVICE = dict(
    block_threads="MAX_THREADS_PER_BLOCK", block_x="MAX_BLOCK_DIM_X", block_y="MAX_BLOCK_DIM_Y", block_z="MAX_BLOCK_DIM_Z", grid_x="MAX_GRID_DIM_X", grid_y="MAX_GRID_DIM_Y",
    grid_z="MAX_GRID_DIM_Z", block_shared="MAX_SHARED_MEMORY_PER_BLOCK", constant="TOTAL_CONSTANT_MEMORY", warp="WARP_SIZE", pitch="MAX_PITCH", block_registers="MAX_REGISTERS_PER_BLOCK",
    clock="CLOCK_RATE", sms="MULTIPROCESSOR_COUNT", timeout="KERNEL_EXEC_TIMEOUT", integrated="INTEGRATED", map_host="CAN_MAP_HOST_MEMORY", compute_mode="COMPUTE_MODE",
    concurrent="CONCURRENT_KERNELS", ecc="ECC_ENABLED", pci_bus="PCI_BUS_ID", pci_device="PCI_DEVICE_ID", tcc="TCC_DRIVER", memory_clock="MEMORY_CLOCK_RATE",
    bus_width="GLOBAL_MEMORY_BUS_WIDTH", l2="L2_CACHE_SIZE", sm_threads="MAX_THREADS_PER_MULTIPROCESSOR", engines="ASYNC_ENGINE_COUNT", unified="UNIFIED_ADDRESSING",
    pci_domain="PCI_DOMAIN_ID", major="COMPUTE_CAPABILITY_MAJOR", minor="COMPUTE_CAPABILITY_MINOR", priorities="STREAM_PRIORITIES_SUPPORTED",
    sm_shared="MAX_SHARED_MEMORY_PER_MULTIPROCESSOR", sm_registers="MAX_REGISTERS_PER_MULTIPROCESSOR", managed="MANAGED_MEMORY", multi_gpu_board="MULTI_GPU_BOARD",
    double_ratio="SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO", pageable="PAGEABLE_MEMORY_ACCESS", concurrent_managed="CONCURRENT_MANAGED_ACCESS", preemption="COMPUTE_PREEMPTION_SUPPORTED",
    cooperative="COOPERATIVE_LAUNCH", optin_shared="MAX_SHARED_MEMORY_PER_BLOCK_OPTIN", vmm="VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED", fd_handles="HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED",
    sm_blocks="MAX_BLOCKS_PER_MULTIPROCESSOR", reserved_shared="RESERVED_SHARED_MEMORY_PER_BLOCK", host_register="HOST_REGISTER_SUPPORTED", pools="MEMORY_POOLS_SUPPORTED",
    cluster="CLUSTER_LAUNCH", ipc="IPC_EVENT_SUPPORTED", tensor_map="TENSOR_MAP_ACCESS_SUPPORTED", multicast="MULTICAST_SUPPORTED")
NUMBERS = {
    "DEVICE": ("CU_DEVICE_ATTRIBUTE_", DEVICE),
    "NODE": ("CU_GRAPH_NODE_TYPE_", dict(kernel="KERNEL", memcpy="MEMCPY", memset="MEMSET", host="HOST", graph="GRAPH", empty="EMPTY", wait="WAIT_EVENT", record="EVENT_RECORD", alloc="MEM_ALLOC",
                                         free="MEM_FREE", conditional="CONDITIONAL")),
    "LAUNCH": ("CU_LAUNCH_ATTRIBUTE_", dict(cooperative="COOPERATIVE", cluster="CLUSTER_DIMENSION", programmatic="PROGRAMMATIC_STREAM_SERIALIZATION", priority="PRIORITY")),
    "FUNCTION": ("CU_FUNC_ATTRIBUTE_", dict(threads="MAX_THREADS_PER_BLOCK", static_shared="SHARED_SIZE_BYTES", constant="CONST_SIZE_BYTES", local="LOCAL_SIZE_BYTES", registers="NUM_REGS",
                                            ptx="PTX_VERSION", binary="BINARY_VERSION", cache="CACHE_MODE_CA", dynamic_shared="MAX_DYNAMIC_SHARED_SIZE_BYTES",
                                            carveout="PREFERRED_SHARED_MEMORY_CARVEOUT", cluster_must="CLUSTER_SIZE_MUST_BE_SET", cluster_x="REQUIRED_CLUSTER_WIDTH",
                                            cluster_y="REQUIRED_CLUSTER_HEIGHT", cluster_z="REQUIRED_CLUSTER_DEPTH", nonportable_cluster="NON_PORTABLE_CLUSTER_SIZE_ALLOWED",
                                            cluster_policy="CLUSTER_SCHEDULING_POLICY_PREFERENCE")),
    "JIT": ("CU_JIT_", dict(registers="MAX_REGISTERS", threads="THREADS_PER_BLOCK", wall_time="WALL_TIME", info_log="INFO_LOG_BUFFER", info_size="INFO_LOG_BUFFER_SIZE_BYTES",
                            error_log="ERROR_LOG_BUFFER", error_size="ERROR_LOG_BUFFER_SIZE_BYTES", opt="OPTIMIZATION_LEVEL", target_from_context="TARGET_FROM_CUCONTEXT", target="TARGET",
                            fallback="FALLBACK_STRATEGY", debug="GENERATE_DEBUG_INFO", verbose="LOG_VERBOSE", line_info="GENERATE_LINE_INFO", cache="CACHE_MODE")),
    "POINTER": ("CU_POINTER_ATTRIBUTE_", dict(context="CONTEXT", memory_type="MEMORY_TYPE", device_pointer="DEVICE_POINTER", host_pointer="HOST_POINTER", sync_memops="SYNC_MEMOPS",
                                              buffer_id="BUFFER_ID", is_managed="IS_MANAGED", device="DEVICE_ORDINAL", range_start="RANGE_START_ADDR", range_size="RANGE_SIZE", mapped="MAPPED",
                                              access="ACCESS_FLAGS", mempool="MEMPOOL_HANDLE")),
    "POOL": ("CU_MEMPOOL_ATTR_", dict(reuse_event="REUSE_FOLLOW_EVENT_DEPENDENCIES", reuse_opportunistic="REUSE_ALLOW_OPPORTUNISTIC", reuse_dependencies="REUSE_ALLOW_INTERNAL_DEPENDENCIES",
                                      release_threshold="RELEASE_THRESHOLD", reserved="RESERVED_MEM_CURRENT", reserved_high="RESERVED_MEM_HIGH", used="USED_MEM_CURRENT",
                                      used_high="USED_MEM_HIGH")),
}
# numbers that stand in forno's files without a table
ALONE = {"CU_GET_PROC_ADDRESS_LEGACY_STREAM": 1, "CU_STREAM_CAPTURE_MODE_GLOBAL": 0, "CU_STREAM_CAPTURE_MODE_THREAD_LOCAL": 1, "CU_STREAM_CAPTURE_MODE_RELAXED": 2, "CU_JIT_INPUT_PTX": 1,
         "CU_MEMHOSTALLOC_PORTABLE": 1, "CU_MEMHOSTALLOC_DEVICEMAP": 2, "CU_STREAM_NON_BLOCKING": 1, "CU_EVENT_BLOCKING_SYNC": 1, "CU_EVENT_DISABLE_TIMING": 2, "CU_EVENT_INTERPROCESS": 4,
         "CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE": 1, "CU_MEMORYTYPE_HOST": 1, "CU_MEMORYTYPE_DEVICE": 2, "CU_MEMORYTYPE_UNIFIED": 4, "CU_MEM_ALLOCATION_TYPE_PINNED": 1,
         "CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR": 1, "CU_MEM_LOCATION_TYPE_DEVICE": 1, "CU_MEM_ACCESS_FLAGS_PROT_READWRITE": 3, "CU_JIT_NUM_OPTIONS": simulated._JIT_OPTIONS,
         "sizeof(CUuuid)": 16, "sizeof(CUipcMemHandle)": 64, "sizeof(CUipcEventHandle)": 64, "sizeof(CUdeviceptr)": 8, "sizeof(CUdevice)": 4, "sizeof(CUmemGenericAllocationHandle)": 8, "sizeof(CUjit_option)": 4,
         "sizeof(((CUlaunchAttributeValue *)0)->pad)": 64, "(size_t)CU_STREAM_LEGACY": 1, "(size_t)CU_STREAM_PER_THREAD": 2,
         "(size_t)CU_LAUNCH_PARAM_BUFFER_POINTER": 1, "(size_t)CU_LAUNCH_PARAM_BUFFER_SIZE": 2}


@functools.cache
def said() -> dict[str, int]:
    """Every expression of C and its value."""
    asked = [e for kind, fields in STRUCTS.values() for e in (f"sizeof({kind})", *(f"offsetof({kind}, {f})" for f in fields.split()))]
    asked += [prefix + name for prefix, names in NUMBERS.values() for name in names.values()] + list(ALONE)
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/said.c", "w") as f:
            f.write("#include <stdio.h>\n#include <stddef.h>\n#include <cuda.h>\nint main(void) {\n" + "".join(f'printf("%zd\\n", (size_t)({e}));\n' for e in asked) + "return 0; }\n")
        subprocess.run(["gcc", "-I", os.path.dirname(INCLUDES[-1]), "-w", "-o", f"{folder}/said", f"{folder}/said.c"], check=True, timeout=60)
        done = subprocess.run([f"{folder}/said"], capture_output=True, text=True, check=True, timeout=20)
    return dict(zip(asked, map(int, done.stdout.split()), strict=True))


@pytest.mark.parametrize("name", STRUCTS)
def test_structures_lie_as_cs(name):
    ours, (kind, fields) = getattr(prototypes, name), STRUCTS[name]
    assert ctypes.sizeof(ours) == said()[f"sizeof({kind})"]
    for (field, *_), theirs in zip(ours._fields_, fields.split()): assert getattr(ours, field).offset == said()[f"offsetof({kind}, {theirs})"], (field, theirs)


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_cudas(name):
    prefix, names = NUMBERS[name]
    assert getattr(prototypes, name) == {ours: said()[prefix + theirs] for ours, theirs in names.items()}


def test_numbers_without_a_table(): assert {e: said()[e] for e in ALONE} == ALONE
