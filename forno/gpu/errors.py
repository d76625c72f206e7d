"""The driver's error codes as exceptions.

Comes in: a function's name and the code it returned. Goes out: a `CudaError` that says the code's name, what the driver says of it, and in one sentence the
likely cause and the way out. `Missing` is raised where there is no driver to speak to at all.
"""
from __future__ import annotations

from ..core.errors import AcceleratorError, OutOfMemoryError


class Missing(RuntimeError):
    """There is no GPU that forno can use; the message is one sentence that says why and what to do."""


class CudaError(AcceleratorError):
    """A call of the driver failed. `code` and `name` are the driver's, `function` is what was called."""

    error_code = property(lambda self: self.code)        # PyTorch's name

    def __init__(self, function: str, code: int, detail: str = ""):
        self.function, self.code, (self.name, text, hint) = function, code, described(code)
        super().__init__(f"CUDA error: {text} ({self.name}, {code}, from cu{function})" + (f": {detail}" if detail else "") + (f"\n{hint}" if hint else ""))

    @property
    def sticky(self) -> bool:
        """Is the context lost? Every later call on this device returns the same code, until the process ends."""
        return self.code in STICKY

    def __reduce__(self): return type(self), (self.function, self.code)


class OutOfMemory(CudaError, OutOfMemoryError):
    """CUDA_ERROR_OUT_OF_MEMORY, which is torch.OutOfMemoryError, too."""


def error(function: str, code: int, detail: str = "") -> CudaError:
    return (OutOfMemory if code == CODES["OUT_OF_MEMORY"] else CudaError)(function, code, detail)


def described(code: int) -> tuple[str, str, str]:
    """(name, what the driver says, cause and way out)"""
    name, text, hint = _KNOWN.get(code, (f"CUDA_ERROR_{code}", "a code that this version of forno has no name for", "See the table of CUresult in the driver's documentation."))
    return (name if name.startswith("CUDA_") else f"CUDA_ERROR_{name}"), text, hint


_KERNEL = ("Kernels run later than they are launched, so another call may report it; CUDA_LAUNCH_BLOCKING=1 makes the launch itself report it. "
           "The context is lost: end this process.")
_CAPTURE = "Calls that wait or allocate can't be captured: move them before the capture."

# code, name, the text of cuGetErrorString, likely cause and way out
_TABLE = (
    (0, "CUDA_SUCCESS", "no error", ""),
    (1, "INVALID_VALUE", "invalid argument", "An argument is out of range or a pointer is of the wrong kind."),
    (2, "OUT_OF_MEMORY", "out of memory", "Free tensors, take smaller batches, or end other processes on this GPU (nvidia-smi shows them)."),
    (3, "NOT_INITIALIZED", "initialization error",
     "The driver was not initialised in this process: a forked child must not use CUDA, start it with the 'spawn' method."),
    (4, "DEINITIALIZED", "driver shutting down", "The process is ending; CUDA can't be used from exit handlers this late."),
    (34, "STUB_LIBRARY", "CUDA driver is a stub library",
     "The libcuda that was found is the toolkit's stub for linking: take its folder (…/lib64/stubs) out of LD_LIBRARY_PATH, so that the driver's own libcuda.so.1 is found."),
    (35, "INSUFFICIENT_DRIVER", "CUDA driver version is insufficient for CUDA runtime version", "Install a newer NVIDIA driver: 525 or later."),
    (36, "CALL_REQUIRES_NEWER_DRIVER", "API call is not supported in the installed CUDA driver", "Install a newer NVIDIA driver."),
    (46, "DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable",
     "Another process holds the GPU in exclusive mode: end it (nvidia-smi shows it), or `nvidia-smi -c DEFAULT` allows several."),
    (100, "NO_DEVICE", "no CUDA-capable device is detected",
     "The driver is there but shows this process no GPU: see nvidia-smi, CUDA_VISIBLE_DEVICES and the container's --gpus; where MIG is on, instances have to be made first."),
    (101, "INVALID_DEVICE", "invalid device ordinal", "There is no device of that number: CUDA_VISIBLE_DEVICES renumbers those it lets through, from 0."),
    (102, "DEVICE_NOT_LICENSED", "device doesn't have a valid Grid license", "This virtual GPU has no licence: ask whoever runs the machine."),
    (200, "INVALID_IMAGE", "device kernel image is invalid", "The code is neither PTX nor a cubin of this driver's, or it is cut short."),
    (201, "INVALID_CONTEXT", "invalid device context", "No context is current in this thread, or it was destroyed: select a device first."),
    (205, "MAP_FAILED", "mapping of buffer object failed", ""),
    (206, "UNMAP_FAILED", "unmapping of buffer object failed", ""),
    (208, "ALREADY_MAPPED", "resource already mapped", ""),
    (209, "NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device",
     "The code was made for another GPU: it must be made for this one's compute capability, or be PTX of a lower one."),
    (211, "NOT_MAPPED", "resource not mapped", ""),
    (214, "ECC_UNCORRECTABLE", "uncorrectable ECC error encountered",
     "The GPU's memory has a fault: reset it, and have it replaced if this comes again (nvidia-smi -q -d ECC)."),
    (215, "UNSUPPORTED_LIMIT", "limit is not supported on this architecture", ""),
    (216, "CONTEXT_ALREADY_IN_USE", "exclusive-thread device already in use by a different thread", ""),
    (217, "PEER_ACCESS_UNSUPPORTED", "peer access is not supported between these two devices", "Copies between them go through the host."),
    (218, "INVALID_PTX", "a PTX JIT compilation failed", "The PTX has an error, or needs a newer driver than this one."),
    (220, "NVLINK_UNCORRECTABLE", "uncorrectable NVLink error detected during the execution", "The link between the GPUs has a fault (nvidia-smi nvlink -e)."),
    (221, "JIT_COMPILER_NOT_FOUND", "PTX JIT compiler library not found",
     "libnvidia-ptxjitcompiler.so.1 is missing: a container needs the driver capability 'compute' (NVIDIA_DRIVER_CAPABILITIES=compute,utility)."),
    (222, "UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain.",
     "The PTX's .version is newer than the driver: install a newer one, or make older PTX."),
    (223, "JIT_COMPILATION_DISABLED", "PTX JIT compilation was disabled", "Unset CUDA_DISABLE_PTX_JIT."),
    (300, "INVALID_SOURCE", "device kernel image is invalid", ""),
    (301, "FILE_NOT_FOUND", "file not found", ""),
    (302, "SHARED_OBJECT_SYMBOL_NOT_FOUND", "shared object symbol not found", "The code refers to a function that it does not define (.extern .func)."),
    (303, "SHARED_OBJECT_INIT_FAILED", "shared object initialization failed", ""),
    (304, "OPERATING_SYSTEM", "OS call failed or operation not supported on this OS",
     "In containers: too little locked memory (ulimit -l) or shared memory (--shm-size, --ipc=host)."),
    (400, "INVALID_HANDLE", "invalid resource handle", "A stream, event, module or graph was destroyed, or belongs to another device."),
    (401, "ILLEGAL_STATE", "the operation cannot be performed in the present state", ""),
    (500, "NOT_FOUND", "named symbol not found", "The module has no function or variable of that name."),
    (600, "NOT_READY", "device not ready", ""),
    (700, "ILLEGAL_ADDRESS", "an illegal memory access was encountered", _KERNEL),
    (701, "LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch",
     "The block needs more registers or threads than a multiprocessor has: launch smaller blocks."),
    (702, "LAUNCH_TIMEOUT", "the launch timed out and was terminated", "The GPU drives a display and its watchdog ended a long kernel. " + _KERNEL),
    (704, "PEER_ACCESS_ALREADY_ENABLED", "peer access is already enabled", ""),
    (705, "PEER_ACCESS_NOT_ENABLED", "peer access has not been enabled", ""),
    (708, "PRIMARY_CONTEXT_ACTIVE", "cannot set while device is active in this process", ""),
    (709, "CONTEXT_IS_DESTROYED", "context is destroyed", ""),
    (710, "ASSERT", "device-side assert triggered", _KERNEL),
    (711, "TOO_MANY_PEERS", "peer mapping resources exhausted", ""),
    (712, "HOST_MEMORY_ALREADY_REGISTERED", "part or all of the requested memory range is already mapped", "The memory is pinned already."),
    (713, "HOST_MEMORY_NOT_REGISTERED", "pointer does not correspond to a registered memory region", "The memory was not pinned."),
    (714, "HARDWARE_STACK_ERROR", "hardware stack error", _KERNEL),
    (715, "ILLEGAL_INSTRUCTION", "an illegal instruction was encountered", _KERNEL),
    (716, "MISALIGNED_ADDRESS", "misaligned address", _KERNEL),
    (717, "INVALID_ADDRESS_SPACE", "operation not supported on global/shared address space", _KERNEL),
    (718, "INVALID_PC", "invalid program counter", _KERNEL),
    (719, "LAUNCH_FAILED", "unspecified launch failure", _KERNEL),
    (720, "COOPERATIVE_LAUNCH_TOO_LARGE", "too many blocks in cooperative launch", "All blocks of a cooperative launch must fit on the GPU at once."),
    (800, "NOT_PERMITTED", "operation not permitted", "Host functions in a stream must not call CUDA."),
    (801, "NOT_SUPPORTED", "operation not supported", "This GPU or driver can't do it."),
    (802, "SYSTEM_NOT_READY", "system not yet initialized", "On machines with NVSwitch the service nvidia-fabricmanager must run, of the driver's version."),
    (803, "SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination",
     "libcuda and the loaded kernel module are of different versions, as after an update: restart the machine; in a container, make the image's libcuda the host's."),
    (804, "COMPAT_NOT_SUPPORTED_ON_DEVICE", "forward compatibility was attempted on non supported HW",
     "The cuda-compat libcuda was found, which only works on data-centre GPUs: take its folder (…/compat) out of LD_LIBRARY_PATH, or update the driver."),
    (805, "MPS_CONNECTION_FAILED", "MPS client failed to connect to the MPS control daemon or the MPS server",
     "Restart the MPS daemon, or unset CUDA_MPS_PIPE_DIRECTORY."),
    (806, "MPS_RPC_FAILURE", "MPS server and MPS client communication failed", "Restart the MPS daemon."),
    (807, "MPS_SERVER_NOT_READY", "the MPS server is not ready to accept new MPS client requests", "Try again; if it stays, restart the MPS daemon."),
    (808, "MPS_MAX_CLIENTS_REACHED", "the hardware resources required to create MPS client have been exhausted", "End other processes on this GPU."),
    (809, "MPS_MAX_CONNECTIONS_REACHED", "the hardware resources required to support device connections have been exhausted",
     "End other processes on this GPU."),
    (900, "STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing", _CAPTURE),
    (901, "STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture", "An earlier call spoiled the capture: its error says what."),
    (902, "STREAM_CAPTURE_MERGE", "operation would result in a merge of separate capture sequences", "A stream can't wait for an event of another capture."),
    (903, "STREAM_CAPTURE_UNMATCHED", "capture was not ended in the same stream as it began", ""),
    (904, "STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work",
     "Every stream that was drawn into the capture must be waited for by the stream that began it, before the capture ends."),
    (905, "STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream",
     "Record the event within the capture, or wait for it before the capture."),
    (906, "STREAM_CAPTURE_IMPLICIT", "operation would make the legacy stream depend on a capturing blocking stream",
     "Nothing may run in the default stream while a blocking stream captures."),
    (907, "CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream", "Record the event again, outside the capture."),
    (908, "STREAM_CAPTURE_WRONG_THREAD", "attempt to terminate a thread-local capture sequence from another thread", ""),
    (909, "TIMEOUT", "wait operation timed out", ""),
    (910, "GRAPH_EXEC_UPDATE_FAILURE", "the graph update was not performed because it included changes which violated constraints specific to instantiated graph update",
     "Instantiate the graph anew."),
    (911, "EXTERNAL_DEVICE", "an async error has occurred in external entity outside of CUDA", ""),
    (912, "INVALID_CLUSTER_SIZE", "a kernel launch error has occurred due to cluster misconfiguration",
     "The grid must be a multiple of the cluster, and the cluster fit the GPU."),
    (999, "UNKNOWN", "unknown error",
     "Often the kernel module nvidia-uvm is not loaded or /dev/nvidia-uvm may not be opened (after a suspend: reload it; in a container: start it with --gpus)."),
)
_KNOWN = {code: rest for code, *rest in _TABLE}
CODES = {name.removeprefix("CUDA_"): code for code, name, *_ in _TABLE}
STICKY = frozenset((214, 220, 700, 702, 710, 714, 715, 716, 717, 718, 719))
