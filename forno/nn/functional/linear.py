"""Linear maps and convolutions."""
from __future__ import annotations

from ...framework import api as torch, autocast

conv1d, conv2d, conv3d = torch.conv1d, torch.conv2d, torch.conv3d
conv_transpose1d, conv_transpose2d, conv_transpose3d = torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d


def linear(input, weight, bias=None, *, out=None):
    """input (..., in), weight (out, in) or (in,), bias (out,) -> (..., out)."""
    if bias is not None and input.dim() == 2 and weight.dim() == 2:
        return torch.addmm(bias, input, weight.t()) if out is None else torch.addmm(bias, input, weight.t(), out=out)
    product = torch.matmul(input, weight.t())                                # (..., out)
    product = product if bias is None else product + bias
    return product if out is None else out.resize_(product.shape).copy_(product)


linear = autocast.apply(linear, "linear")


def bilinear(input1, input2, weight, bias=None):
    """input1 (..., i), input2 (..., j), weight (out, i, j) -> (..., out): x1ᵀ W x2 + b."""
    if input1.dim() != input2.dim() or input1.shape[:-1] != input2.shape[:-1]:
        raise RuntimeError("bilinear(): input batch dimensions do not match: got " f"{tuple(input1.shape)} and {tuple(input2.shape)}")
    for n, x in ((1, input1), (2, input2)):
        if x.size(-1) != weight.size(n):
            raise RuntimeError(f"bilinear(): input{n} size does not match weight size: got {x.size(-1)} but expected {weight.size(n)}")
    out = torch.einsum("...i,kij,...j->...k", input1, weight, input2)
    return out if bias is None else out + bias


def grouped_mm(mat_a, mat_b, *, offs=None, bias=None, out_dtype=None):
    """Products of groups of rows (mat_a 2-D), of columns (mat_b 2-D) or of parts of the inner axis (both 2-D), cut where `offs` (int32) says; of batches without."""
    ragged = mat_a.dim() == 2 or mat_b.dim() == 2
    if ragged != (offs is not None):
        raise RuntimeError("Have to provide offsets if there is a 2d matrix, or no offset if both matrices are 3d")
    if bias is not None:
        raise RuntimeError("Bias not supported yet")
    for name, m in (("mat_a", mat_a), ("mat_b", mat_b)):
        if m.dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise RuntimeError(f"Expected {name} to be Float32, BFloat16 or Float16 matrix, got {m.dtype}")
    if not ragged:
        return torch.bmm(mat_a, mat_b)
    if offs.dtype != torch.int32:
        raise RuntimeError("Offsets have to be int32")
    ends = offs.tolist()
    groups = [slice(a, b) for a, b in zip([0, *ends], ends)]
    if mat_a.dim() == 2 and mat_b.dim() == 2:
        return torch.stack([mat_a[:, g] @ mat_b[g] for g in groups])
    if mat_a.dim() == 2:
        rest = [mat_a.new_zeros(mat_a.size(0) - ends[-1], mat_b.size(2))]     # rows behind the last group
        return torch.cat([mat_a[g] @ m for g, m in zip(groups, mat_b)] + rest)
    rest = [mat_b.new_zeros(mat_a.size(1), mat_b.size(1) - ends[-1])]
    return torch.cat([m @ mat_b[:, g] for g, m in zip(groups, mat_a)] + rest, 1)


def conv_tbc(input, weight, bias, pad=0):
    """Convolution over time with layout input (T, B, C), weight (k, in, out), bias (out,)."""
    out = conv1d(input.permute(1, 2, 0), weight.permute(2, 1, 0), bias, padding=pad)      # (B, out, T')
    return out.permute(2, 0, 1)
