"""Programs that no other test began."""
import gc

import pytest

from forno.framework.engine import flush
from forno.graph.line import LOCAL, drop_trie


@pytest.fixture
def fresh():
    """Nothing is known of any program, and nothing that a test left in a cycle lives on: hooked values keep backward from being said from memory."""
    gc.collect()
    flush()
    drop_trie()
    LOCAL.run.open(LOCAL.run.grad, LOCAL.run.inference)
