"""Modules that hold parameters: ParameterList, ParameterDict. Tensors become Parameters, other values are kept as they are."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from ...framework import api as torch
from ..parameter import Parameter
from .container import _pairs, _position
from .module import Module
from .utils import typename

__all__ = ["ParameterList", "ParameterDict"]


def _registrable(value):
    return Parameter(value) if isinstance(value, torch.Tensor) and not isinstance(value, Parameter) else value


def _describe(key, value, kind):
    if not isinstance(value, torch.Tensor):
        return f"  ({key}): Object of type: {type(value).__name__}"
    where = f" ({value.device})" if value.device.type == "cuda" else ""
    what = "Parameter" if isinstance(value, Parameter) else "Tensor"
    return f"  ({key}): {what} containing: [{kind(value)} of size {'x'.join(map(str, value.size()))}{where}]"


class ParameterList(Module):
    def __init__(self, values=None):
        super().__init__()
        self._size = 0
        if values is not None:
            self += values

    def _name_at(self, index): return str(_position(len(self), index))

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)(self[i] for i in range(*index.indices(len(self))))
        return getattr(self, self._name_at(index))

    def __setitem__(self, index, param): setattr(self, self._name_at(index), _registrable(param))
    def __len__(self): return self._size
    def __iter__(self): return iter(self[i] for i in range(len(self)))
    def __iadd__(self, parameters): return self.extend(parameters)
    def __dir__(self): return [name for name in super().__dir__() if not name.isdigit()]
    def __call__(self, *args, **kwargs): raise RuntimeError("ParameterList should not be called.")

    def append(self, value):
        self._size += 1
        self[self._size - 1] = value
        return self

    def extend(self, values):
        if not isinstance(values, Iterable) or isinstance(values, torch.Tensor):
            raise TypeError(f"ParameterList.extend should be called with an iterable, but got {type(values).__name__}")
        for value in values:
            self.append(value)
        return self

    def extra_repr(self): return "\n".join(_describe(i, p, lambda t: t.dtype) for i, p in enumerate(self))


class ParameterDict(Module):
    def __init__(self, parameters=None):
        super().__init__()
        self._keys = {}                      # insertion order; values live as attributes
        if parameters is not None:
            self.update(parameters)

    def _attribute(self, key):
        if not isinstance(key, str):
            raise TypeError(f"Index given to ParameterDict cannot be used as a key as it is not a string (type is '{type(key).__name__}').")
        return key

    def __getitem__(self, key): return getattr(self, self._attribute(key))

    def __setitem__(self, key, value):
        self._keys[key] = None
        setattr(self, self._attribute(key), _registrable(value))

    def __delitem__(self, key):
        del self._keys[key]
        delattr(self, self._attribute(key))

    def __len__(self): return len(self._keys)
    def __iter__(self): return iter(self._keys)
    def __reversed__(self): return reversed(self._keys)
    def __contains__(self, key): return key in self._keys
    def __call__(self, input): raise RuntimeError("ParameterDict should not be called.")
    def keys(self): return self._keys.keys()
    def items(self): return ((k, self[k]) for k in self._keys)
    def values(self): return (self[k] for k in self._keys)
    def get(self, key, default=None): return self[key] if key in self else default
    def copy(self): return ParameterDict(OrderedDict(self.items()))
    def fromkeys(self, keys, default=None): return ParameterDict((k, default) for k in keys)

    def setdefault(self, key, default=None):
        if key not in self:
            self[key] = default
        return self[key]

    def clear(self):
        for key in list(self._keys):
            del self[key]

    def pop(self, key):
        value = self[key]
        del self[key]
        return value

    def popitem(self):
        key = next(reversed(self._keys), None)
        if key is None:
            raise KeyError("popitem(): dictionary is empty")
        return key, self.pop(key)

    def update(self, parameters):
        if not isinstance(parameters, Iterable):
            raise TypeError(f"ParametersDict.update should be called with an iterable of key/value pairs, but got {type(parameters).__name__}")
        if isinstance(parameters, (OrderedDict, ParameterDict)):
            pairs = parameters.items()
        else:
            pairs = sorted(parameters.items()) if isinstance(parameters, Mapping) else _pairs(parameters, "ParameterDict")
        for key, value in pairs:
            self[key] = value

    def extra_repr(self): return "\n".join(_describe(k, p, typename) for k, p in self.items())

    def __or__(self, other):
        both = self.copy()
        both.update(other)
        return both

    def __ror__(self, other):
        both = other.copy()
        both.update(self)
        return both

    def __ior__(self, other):
        self.update(other)
        return self
