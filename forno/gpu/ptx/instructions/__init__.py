"""What each PTX instruction means, as LLVM IR. A handler gets the `Code` to write into and the instruction, and is found by the opcode's first word and the
family of its type: "whole" (integers, bits, predicates), "real" (all floats), or "" where the handler knows by itself."""
from . import access, convert, flow, integer, meet, real
