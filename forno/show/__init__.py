"""Views of what the stack did: plans, loops, code and timings as text. Knows every noun below and changes none."""
