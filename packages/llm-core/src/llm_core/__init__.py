"""The words an LLM service layer shares: requests, results, errors, clocks and interfaces."""
