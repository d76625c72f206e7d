"""Views of what the stack did."""
