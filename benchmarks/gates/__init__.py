"""What llm-gates costs beside other limiters, and what it keeps; see `__main__`."""
