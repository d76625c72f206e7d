"""A module called with other tensors in the place of its own: functional_call."""
from __future__ import annotations

from contextlib import contextmanager

__all__ = ["functional_call"]


def _place(module, name):
    """(table, key) of a dotted name, or None."""
    path, _, key = name.rpartition(".")
    try:
        owner = module.get_submodule(path)
    except AttributeError:
        return None
    return next(((table, key) for table in (owner._parameters, owner._buffers) if key in table), None)


def _with_tied(module, given):
    """Names that share a tensor with a given name get the same replacement."""
    own = {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers(remove_duplicate=False))}
    new = {}
    for name in given:
        for other in [name] if name not in own else [n for n, t in own.items() if t is own[name]]:
            if other in given and given[other] is not given[name]:
                raise ValueError(f"functional_call got multiple values for keys {sorted((other, name))}, which are tied. Consider using "
                                 f"tie_weights=False")
            new[other] = given[name]
    return new, own


@contextmanager
def _replaced(module, given, tie_weights, strict):
    """Within the block the module has the given tensors; in-place changes of buffers are handed back through `given`."""
    wanted, own = _with_tied(module, given) if tie_weights else (dict(given), dict(module.named_parameters()) | dict(module.named_buffers()))
    places = {name: _place(module, name) for name in wanted}
    unexpected, missing = [n for n, p in places.items() if p is None], [n for n in own if n not in wanted]
    if strict and (unexpected or missing):
        texts = [f"{what} key(s): {', '.join(map(repr, names))}." for what, names in (("Unexpected", unexpected), ("Missing", missing)) if names]
        raise RuntimeError(f"Error(s) in reparametrizing for {module._get_name()}:\n\t" + "\n\t".join(texts))
    places = {name: place for name, place in places.items() if place is not None}
    before = {name: table[key] for name, (table, key) in places.items()}
    for name, (table, key) in places.items():
        table[key] = wanted[name]
    try:
        yield
    finally:
        for name, (table, key) in places.items():
            if name in given:
                given[name] = table[key]
            table[key] = before[name]


def functional_call(module, parameters_and_buffers, args=None, kwargs=None, *, tie_weights=True, strict=False):
    """module(*args, **kwargs) with parameters_and_buffers (dotted name -> tensor) in the place of its own."""
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    given = parameters_and_buffers
    if not isinstance(given, dict):                          # several dictionaries, as functional_call of torch.func takes them
        given = {name: t for part in given for name, t in part.items()}
    with _replaced(module, given, tie_weights, strict):
        return module(*args, **(kwargs or {}))
