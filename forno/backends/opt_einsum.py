"""opt_einsum: not used; einsum contracts from left to right."""
enabled, strategy = False, None


def is_available() -> bool: return False
