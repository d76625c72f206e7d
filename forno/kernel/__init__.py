"""From kernel nouns to machine code: loop nests and tile programs lowered to LLVM IR. Knows no graph and no tensor."""
