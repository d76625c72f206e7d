"""What can be computed: the op table. Every operation is defined once, here, with its rule, gradient, lowering and oracle.

Comes in: core's nouns; a row's `emit` receives the kernel floor's builder. Goes out: core.op.TABLE, filled as the modules are imported.
Refuses to know: tensors, plans, LLVM.
"""
