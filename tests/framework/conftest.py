"""Programs that no other test began."""
import gc

import pytest

from forno.framework.autograd import HOOKED
from forno.framework.engine import flush
from forno.graph.line import LOCAL, drop_trie


@pytest.fixture
def fresh():
    """Nothing is known of any program, and no hooked value that a test left in a cycle lives on: while there is one, no backward is said from memory."""
    if HOOKED.data: gc.collect()               # of all that other tests left, which takes seconds
    flush()
    drop_trie()
    LOCAL.run.open(LOCAL.run.grad, LOCAL.run.inference)
