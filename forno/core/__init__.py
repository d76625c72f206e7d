"""Ground floor: the nouns every other floor speaks, and nothing that runs.

Comes in: nothing. Goes out: dtypes, views, op rows, lines and nodes, kernels' loop nests, plans, errors, flags.
Refuses to know: NumPy's computing, LLVM, threads, PyTorch's names.
"""
