"""From a user's calls to lines and nodes, and from lines to their gradients. Knows rows, not tensors' names, plans or machines."""
