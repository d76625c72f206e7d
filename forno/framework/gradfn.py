"""`grad_fn`: vertices of the graph for people and scripts to look at, under the class names PyTorch gives them.

Comes in: a node with history. Goes out: an object that names it and knows what it was made from. Gradients never pass through here. A row that serves
several of PyTorch's functions (amax serves max) takes the name of the most used one.
"""
from __future__ import annotations

import functools
import weakref

from ..core.dtype import FLOAT
from ..graph.derive import AFTER, BEFORE
from ..graph.line import LOCAL, History, Leaf, Node
from . import autograd
from .tensor import Tensor, alone, read, wrap

_TITLES = dict(add="Add", add_scaled="Add", lerp_number="Lerp", sub="Sub", addcmul="Addcmul", square="Pow", power="Pow", log1p="Log1P", conv="Convolution", conv_input="Convolution",
               div_count="Mean", amax="Max", amin="Min", copy="Clone", cast="ToCopy", straight="Clone", overwrite="Copy", put="CopySlices", clamp="Clamp",
               clamp_min="Clamp", clamp_max="Clamp", norm="LinalgVectorNorm", layer_norm="NativeLayerNorm", group_norm="NativeGroupNorm",
               batch_norm="NativeBatchNorm", batch_norm_given="NativeBatchNorm", rms_norm="FusedRmsNorm", bce_with_logits="BinaryCrossEntropyWithLogits",
               smooth_l1="SmoothL1Loss", huber="HuberLoss", gelu_tanh="Gelu", atan2="Atan2", logaddexp2="Logaddexp2", exp2="Exp2", log2="Log2", log10="Log10",
               index_write="IndexAdd", embedding="Embedding", logsigmoid="LogSigmoid", attention="ScaledDotProductFlashAttentionForCpu", ctc="CtcLoss")
_POOLS = dict(max_pool="MaxPool{}DWithIndices", avg_pool="AvgPool{}D", adaptive_avg_pool="AdaptiveAvgPool{}D", adaptive_max_pool="AdaptiveMaxPool{}D",
              reflection_pad="ReflectionPad{}D", replication_pad="ReplicationPad{}D")
_VIEWS = dict(p="PermuteBackward0", T="TBackward0", split="SplitBackward0", unbind="UnbindBackward0", t="TransposeBackward0", u="UnsqueezeBackward0", s="SqueezeBackward1", e="ExpandBackward0", n="SliceBackward0",
              i="SelectBackward0", c="SliceBackward0", d="DiagonalBackward0", w="UnfoldBackward0")
_NUMBERED = {"clamp": 1, "clamp_min": 1, "clamp_max": 1}
_FULL_OR_AXES = dict(sum=(0, 1), div_count=(0, 1), prod=(0, 1), amax=(1, 0), amin=(1, 0))     # numbers of PyTorch's two overloads


def operands(n: Node) -> list:
    """What a node was made from, whether or not its window is closed; Python numbers as they are or as their type."""
    past = n.past
    if past is not None and getattr(past, "run", None) is not None: return past.ins
    nodes = LOCAL.run.nodes
    return [nodes[c] if c.__class__ is int else c for c in n.line.ins]


def class_name(n: Node) -> str:
    line = n.line
    if line.title is not None: return line.title
    op, ins = line.op.name, operands(n)
    if op == "cat" and all([named_view(x) == "u" for x in ins if isinstance(x, Node)]): return "StackBackward0"
    if op == "view": return view_name(line, ins[0])
    if op == "add" and layer(ins): return "AddmmBackward0"
    if op == "function": return line.attr[0] + "Backward"
    if op in _FULL_OR_AXES: return reduced(n)
    if op == "matmul": return {2: "MmBackward0"}.get(len(line.shape), "BmmBackward0")
    if op in _POOLS: return _POOLS[op].format(len(line.shape) - 2) + "Backward0"
    if op == "pow": return "PowBackward2" if not isinstance(ins[0], Node) else "PowBackward1" if isinstance(ins[1], Node) else "PowBackward0"
    if op in ("sub", "div") and not isinstance(ins[0], Node): return {"sub": "RsubBackward1", "div": "MulBackward0"}[op]
    if op == "overwrite": return "CopyBackwards"
    if op == "put": return "ConstantPadNdBackward0" if ins[0].line.op.name == "full" and ins[0].line.ins else "CopySlices"
    return f"{title(op)}Backward{_NUMBERED.get(op, 0)}"


def view_name(line, source: Node) -> str:
    """By the geometry the line remembers; axes of length 1 that a row left behind belong to that row."""
    key, op = (line.memo[0][0] if line.memo is not None else None), source.line.op
    if op is not None and op.name == "bitcast": return part_name(line)
    if key is None and op.name == "matmul": return "MvBackward0" if line.shape else "DotBackward0"
    if key is None: return reduced(source) if op.kind in ("reduce", "composite") or op.name == "div_count" else "ViewBackward0"
    if op.name in ("amax", "amin") and key == "s": return reduced(source)
    if op.name == "matmul" and key in ("s", "r"): return "DotBackward0" if line.shape == () else "MvBackward0" if key == "s" else "ViewBackward0"
    return _VIEWS.get(key, "ViewBackward0")


def part_name(line) -> str:
    """Complex numbers seen as real ones or back: PyTorch takes one part as a selection from both."""
    if line.dtype.is_complex: return "ViewAsComplexBackward0"
    return "ViewAsRealBackward0" if line.shape[-1:] == (2,) and line.attr.strides[-1] == 1 else "SelectBackward0"


def layer(ins) -> bool:
    """x @ weight.t() + bias: what a linear layer records."""
    product, bias = ins[0], ins[1]
    if not (isinstance(product, Node) and isinstance(bias, Node) and product.line.op is not None and product.line.op.name == "matmul"): return False
    if len(product.line.shape) != 2 or len(bias.line.shape) != 1: return False
    return named_view(operands(product)[1]) in ("t", "T")


def named_view(n: Node):
    """Which view a node is, by the key of its geometry; None where it is none."""
    return n.line.memo[0][0] if n.line.op is not None and n.line.op.name == "view" and n.line.memo is not None else None


def reduced(n: Node) -> str:
    """A reduction's name; PyTorch numbers the overloads for all elements and for given axes."""
    op, x = n.line.op.name, operands(n)[0]
    full, axes = _FULL_OR_AXES.get(op, (0, 0))
    shape = x.line.shape
    if op == "div_count": shape = operands(x)[0].line.shape
    every = all(k == 1 for k in n.line.shape) and len(shape) == len(n.line.shape) and not kept_some(n, shape)
    return f"{title(op)}Backward{full if every else axes}"


def kept_some(n: Node, shape) -> bool:
    """Does the row's attr name fewer axes than there are?"""
    row = n if n.line.op.name != "div_count" else operands(n)[0]
    attr = row.line.attr
    return isinstance(attr, tuple) and all(isinstance(a, int) for a in attr) and len(attr) < len(shape)


def title(op: str) -> str: return _TITLES.get(op) or "".join(word.capitalize() for word in op.split("_"))


# ---------------------------------------------------------------- edges
_WITH_NUMBERS = frozenset(("add", "sub", "mul", "div"))          # a Python number is an operand of these to PyTorch, too


def parts(n: Node) -> list:
    """Operands that belong to n's own vertex: a reduction behind the view that drops its axes, a product that a bias is added to, new axes that tensors are stacked along."""
    op, ins = n.line.op.name, operands(n)
    if op == "view" and n.line.memo is None: return [x for x in ins if x.line.op is not None and (x.line.op.kind in ("reduce", "composite") or x.line.op.name == "div_count")]
    if op == "cat" and class_name(n) == "StackBackward0": return ins
    return [ins[0]] if op == "div_count" or op == "add" and layer(ins) else []


def inner(n: Node) -> list:
    """Parts, and parts of parts."""
    return [y for x in parts(n) for y in (x, *inner(x))]


def edges(n: Node) -> tuple:
    """The nodes that a vertex sends gradients to, in PyTorch's order; None where nothing flows."""
    if n.past.__class__ is History and n.past.ctx is not None: return tuple([x if x.line.grad else None for x in n.past.ctx.edges])
    own, out, ins = parts(n), (), operands(n)
    for x in reversed(ins) if own and n.line.op.name == "add" else ins:        # a layer's bias comes first
        if any([x is p for p in own]): out += edges(x)
        elif not isinstance(x, Node): out += (None,) * (n.line.op.name in _WITH_NUMBERS)
        elif x.line.dtype.category >= FLOAT: out += (x if x.line.grad else None,)
    return out


# what _saved_… calls operands and results; o: the result, a, b: operands
SAVED = dict(mul="self other", div="self other", pow="self exponent", matmul="self mat2", exp="result", tanh="result", sigmoid="result", relu="result", sqrt="result", rsqrt="result",
             softmax="result", log_softmax="result", log="self", sin="self", cos="self", abs="self", square="self", power="self exponent", log1p="self", erf="self", gelu="self", silu="self")


def saved(n: Node, name: str):
    """One of the values that this vertex's backward reads: a tensor, a number, or None where no gradient needs it."""
    names = SAVED.get(n.line.op.name, "").split()
    if name == "exponent" and n.line.op.name in ("square", "power"): return 2 if n.line.attr is None else n.line.attr
    if name not in names: raise AttributeError(f"'{class_name(n)}' object has no attribute '_saved_{name}'")
    if n.past is not None and getattr(n.past, "freed", False) or any(n.line.slot in f for f in LOCAL.run.freed): raise RuntimeError(FREED)
    if name == "result": return wrap(n)
    ins = operands(n)
    k = names.index(name)
    other = ins[1 - k] if len(names) == 2 and len(ins) == 2 else None
    if name in ("other", "mat2", "self") and other is not None and n.line.op.name in ("mul", "matmul") and not (isinstance(other, Node) and other.line.grad): return None
    return wrap(ins[k]) if isinstance(ins[k], Node) else number_of(n, k)


def number_of(n: Node, k: int):
    """A Python number among a vertex's operands."""
    x = operands(n)[k]
    if not isinstance(x, type) and not isinstance(x, tuple): return x
    scalars = LOCAL.run.scalars
    return scalars[x[1]] if isinstance(x, tuple) else scalars[n.line.scal + sum(isinstance(c, type) for c in n.line.ins[:k])]


FREED = ("Trying to backward through the graph a second time (or directly access saved tensors after they have already been freed). Saved intermediate values of the graph are freed "
         "when you call .backward() or autograd.grad(). Specify retain_graph=True if you need to backward through the graph a second time or if you need to access saved tensors "
         "after calling backward.")


class GradFn:
    """One vertex: `name()`, `next_functions`. Each kind has a class of PyTorch's name; two looks at one vertex are the same object while somebody holds it."""
    __slots__ = ("node", "__weakref__")

    def __init__(self, node): self.node = node

    @property
    def key(self): return self.node

    @property
    def metadata(self) -> dict: return _metadata.setdefault(self.key, {})

    def name(self) -> str: return f"torch::autograd::{type(self).__name__}" if type(self).__name__ in ("CopySlices", "CopyBackwards") else type(self).__name__

    def register_prehook(self, fn):
        """fn(gradients) before this vertex uses its gradients; what it returns takes their place."""
        return autograd.hooked(self.node, autograd.VertexHook(fn, BEFORE))

    def register_hook(self, fn):
        """fn(gradients of the operands, gradients) after this vertex; what it returns takes the place of the first."""
        return autograd.hooked(self.node, autograd.VertexHook(fn, AFTER, edges(self.node), inner(self.node)))

    def __getattr__(self, name):
        if name.startswith("_saved_"): return saved(self.node, name[7:])
        past = self.node.past
        if past.__class__ is History and past.ctx is not None and hasattr(past.ctx.ctx, name): return getattr(past.ctx.ctx, name)       # a custom function's own
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __dir__(self): return [*super().__dir__(), *(f"_saved_{name}" for name in SAVED.get(self.node.line.op.name, "").split())]

    @property
    def next_functions(self): return tuple((None if x is None else vertex(x), 0 if x is None else output_number(x)) for x in edges(self.node))

    def __eq__(self, other): return isinstance(other, GradFn) and other.key is self.key
    def __hash__(self): return id(self.key)
    def __repr__(self): return f"<{type(self).__name__} object at {id(self.key):#x}>"


class AccumulateGrad(GradFn):
    """The end of a path: a leaf. `variable` is a tensor on the same leaf, the user's own while that lives."""
    __slots__ = ("leaf", "variable")

    def __init__(self, node):
        self.leaf = node.past
        owner = self.leaf.owner() if self.leaf.owner is not None else None
        self.variable = wrap(node) if owner is None else owner

    node, key = property(lambda self: read(self.variable)), property(lambda self: self.leaf)
    def name(self): return "torch::autograd::AccumulateGrad"

    @property
    def next_functions(self): return ()


_classes: dict[str, type] = {}
_metadata = weakref.WeakKeyDictionary()        # Node or Leaf -> what a user keeps at this vertex
_looked_at = weakref.WeakValueDictionary()     # id of Node or Leaf -> its object


def vertex(n: Node):
    """The object for a node; None where no gradient flows."""
    if not n.line.grad: return None
    leaf = n.past.__class__ is Leaf
    if not leaf: n = gathering(n)
    f = _looked_at.get(id(n.past if leaf else n))
    if f is None:
        f = AccumulateGrad(n) if leaf else class_of(class_name(n))(n)
        _looked_at[id(f.key)] = f
    return f


def class_of(name: str) -> type:
    if name not in _classes: _classes[name] = type(name, (GradFn,), {"__slots__": (), "__module__": "torch.autograd.graph"})
    return _classes[name]


def gathering(n: Node) -> Node:
    """A custom function has one vertex for all its outputs: the one before them."""
    return operands(n)[0] if n.line.op is not None and n.line.op.name == "function" and n.line.attr[1] >= 0 else n


def output_number(n: Node) -> int: return max(n.line.attr[1], 0) if n.line.op is not None and n.line.op.name == "function" else 0


def edge_of(t: Tensor) -> autograd.GradientEdge:
    """The vertex that a tensor's gradient arrives at."""
    n = read(t)
    if not n.line.grad: raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    f = vertex(n)
    return autograd.GradientEdge(f, output_number(n), None if f.node is n or n.past.__class__ is Leaf else GradFn(n))


# ---------------------------------------------------------------- functions that are one vertex to PyTorch and several rows here
WHOLE = dict(sort="Sort", topk="Topk", kthvalue="Kthvalue", median="Median", max="Max", min="Min", cummax="Cummax", cummin="Cummin", masked_select="MaskedSelect", tril="Tril",
             triu="Triu", flip="Flip", roll="Roll", repeat="Repeat", tile="Repeat", trace="Trace", addmm="Addmm", baddbmm="Baddbmm", index_fill="IndexFill",
             masked_scatter="MaskedScatter", scatter_add="ScatterAdd", renorm="Renorm", aminmax="Aminmax", cdist="Cdist", as_strided="AsStrided", amax="Amax", amin="Amin")
LOSSES = dict(mse_loss="MseLoss", smooth_l1_loss="SmoothL1Loss", huber_loss="HuberLoss", nll_loss="NllLoss", cross_entropy="NllLoss", binary_cross_entropy="BinaryCrossEntropy",
              binary_cross_entropy_with_logits="BinaryCrossEntropyWithLogits", multi_margin_loss="MultiMarginLoss", glu="Glu", prelu="PreluKernel", selu="Elu",
              pixel_shuffle="PixelShuffle", unfold="Im2Col")


def entitled(f, title: str):
    """f, whose result's vertex is called by f's name in PyTorch. Parts of several results share it; one result keeps a reduction's numbered name."""
    numbered = title in ("Max", "Min", "Median")

    @functools.wraps(f)
    def call(*args, **kw):
        r = f(*args, **kw)
        many = isinstance(r, tuple)
        for t in r if many else (r,):
            if not isinstance(t, Tensor): continue
            if t.alias is not None and title != "AsStrided": alone(t)
            line = read(t).line
            if line.grad and line.title is None and (many or not numbered or title == "Median"): line.title = f"{title}Backward{int(many and title == 'Median')}"
        return r
    return call
