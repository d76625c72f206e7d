"""From a graph of values to kernels in order with every operand placed. Knows rows and loops, not tensors or machine code."""
