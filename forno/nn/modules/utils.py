"""Small helpers that modules share, under the names PyTorch's modules.utils has: numbers to tuples, and prefixes of state dicts."""
from __future__ import annotations

from .._arguments import _list_with_default, _ntuple, _pair, _quadruple, _reverse_repeat_tuple, _single, _triple, parse_to, typename

__all__ = ["consume_prefix_in_state_dict_if_present", "_list_with_default", "_ntuple", "_pair", "_quadruple", "_reverse_repeat_tuple", "_single",
           "_triple", "parse_to", "typename"]


def consume_prefix_in_state_dict_if_present(state_dict, prefix):
    """Strip `prefix` ('module.' of a data-parallel model) from keys and metadata, in place."""
    for key in [k for k in state_dict if k.startswith(prefix)]:
        state_dict[key[len(prefix):]] = state_dict.pop(key)
    metadata = getattr(state_dict, "_metadata", {})
    for key in [k for k in metadata if k and (k == prefix.replace(".", "") or k.startswith(prefix))]:
        metadata[key[len(prefix):]] = metadata.pop(key)
