"""What native code and Python both know: the words of a running block and of a thread's frame, reasons to wait, and faults.

A block's words (`B`) and a thread's frame (`T`) are arrays of 8-byte words; the names below are positions in them. Compiled kernels and the runtime get
the addresses of both.
"""
from __future__ import annotations

# ---- the block: launch, memory, machinery
(FAULT, FAULT_ADDRESS, FAULT_INFO, FAULT_THREAD, FAULT_OTHER, BUDGET, CTA_X, CTA_Y, CTA_Z, NTID_X, NTID_Y, NTID_Z, GRID_X, GRID_Y, GRID_Z,
 DELTA, STARTS, ENDS, COUNT, TOUCHED, LAST,
 SHARED, SHARED_SIZE, SHADOW, GRANULE, POISON, PARAMS, GLOBALS, FRAMES, STRIDE, THREADS, WARPS, RANDOM, STEP, WAITS, HEADER, LOCAL, LOCAL_SIZE,
 CLOCKS, BLOCKS, BLOCK_FACTOR, BLOCK_START, WARP_TABLE, BARRIERS, SCRATCH, COPIES, BLOCK_ID, LIVING,
 GLOBAL_SHADOW, GLOBAL_OFFSETS, GLOBAL_GRANULE, FENCED, RACES, APPROXIMATE) = range(54)
FUNCTIONS = 64                                 # from here: addresses of the runtime's functions
BLOCK_WORDS = 256

# ---- a thread's frame
(STATE, WAIT, PLACE, MASK, X, TID_X, TID_Y, TID_Z, LINEAR, LANE, WARP, PENDING, GROUP) = (0, 1, 2, 3, 4, 20, 21, 22, 23, 24, 25, 26, 27)
FRAME_WORDS = 32                               # then flags of registers that may be read before they are written, registers, local memory

# ---- tables of the scheduler
WARP_WORDS = 4                                 # of each warp: lanes that are ready, have ended, exist
(READY, ENDED, EXISTS) = range(3)
BARRIER_WORDS = 4 + 32                         # arrived, count wanted (0: all), result of a reduction, its kind; what arrivals know of each warp
(ARRIVED, WANTED, RESULT, REDUCTION, KNOWN) = range(5)
COPY_WORDS = 5                                 # of an asynchronous copy: target offset, source host address, bytes, bytes that are not zero, group
MAX_COPIES = 512                               # that one thread may have under way

# ---- why a thread waits. Warp collectives carry their operands in X.
(RUN, EXIT, BARRIER, SHFL_UP, SHFL_DOWN, SHFL_BFLY, SHFL_IDX, VOTE_ALL, VOTE_ANY, VOTE_UNI, VOTE_BALLOT, MATCH_ANY, MATCH_ALL,
 REDUX_ADD, REDUX_MIN, REDUX_MAX, REDUX_MINU, REDUX_MAXU, REDUX_AND, REDUX_OR, REDUX_XOR, REDUX_FMIN, REDUX_FMAX, WARP_SYNC, ELECT, LDMATRIX, STMATRIX,
 MMA, ACTIVE) = range(29)
ALIGNED, ARRIVE_ONLY = 1, 2                    # flags of a barrier, in X[2]

# ---- accesses: `info` of a check is size | flags | line << 16
WRITES, STRONG, ATOMIC = 256, 512, 1024

# ---- spaces inside the generic address range: windows below all device memory
WINDOW = 1 << 24
SHARED_WINDOW, LOCAL_WINDOW, PARAM_WINDOW = WINDOW, 2 * WINDOW, 3 * WINDOW

# ---- faults: number -> kind and a sentence; {address}, {size}, {other} come from the words above
FAULTS = {
    1: ("out of bounds", "{access} of {size} bytes at {address:#x}, where no allocation is"),
    2: ("misaligned", "{access} at {address:#x} must be aligned to {size} bytes"),
    3: ("out of bounds", "{access} of {size} bytes at shared offset {address:#x}; the block has {shared} bytes"),
    4: ("race", "{access} of {size} bytes at shared offset {address:#x}; thread {other} touches it too, and no barrier lies between"),
    5: ("uninitialized", "{access} of {size} bytes at shared offset {address:#x}, which nobody has written"),
    6: ("race", "{access} of {size} bytes at shared offset {address:#x}, where an asynchronous copy of thread {other} has not been waited for"),
    7: ("endless", "the budget of branches is spent"),
    8: ("deadlock", "no thread can go on"),
    9: ("divergent", "lanes of one warp came to different places, or with different masks, where all must come to the same"),
    10: ("trap", "the kernel executed trap"),
    11: ("undefined", "the register {register} is read, and nothing has written it"),
    12: ("out of bounds", "{access} of {size} bytes at local offset {address:#x}"),
    13: ("read-only", "{access} at {address:#x}, which is constant memory"),
    14: ("mask", "the executing lane is not in its own membermask {address:#x}"),
    15: ("inactive", "a lane reads from lane {other}, which takes no part"),
    16: ("barrier", "barrier {address} is used with different counts, reductions or a count that is no multiple of 32"),
    17: ("copies", "more than 512 asynchronous copies of one thread are under way"),
    18: ("branch", "the index {address} of a branch table is out of range"),
    19: ("uninitialized", "{access} of parameter bytes at {address:#x}, outside the kernel's parameters"),
    20: ("copies", "an asynchronous copy of {address} bytes where {size} was said"),
    21: ("race", "{access} of {size} bytes at {address:#x}; thread {other} of block {block} touches it too, and nothing orders the two"),
}
(OUT_OF_BOUNDS, MISALIGNED, SHARED_BOUNDS, RACE, UNINITIALIZED, NOT_LANDED, ENDLESS, DEADLOCK, DIVERGENT, TRAP, UNDEFINED, LOCAL_BOUNDS, READ_ONLY, NO_MEMBER,
 INACTIVE, BARRIER_MISUSE, TOO_MANY_COPIES, NO_TARGET, PARAM_BOUNDS, COPY_SIZE, GLOBAL_RACE) = range(1, 22)
