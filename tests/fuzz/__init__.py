"""Random programs, run statement by statement in PyTorch and in forno."""
