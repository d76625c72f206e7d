"""What can be computed: the op table. Every operation is defined once, here, with its rule, gradient, lowering and oracle."""
