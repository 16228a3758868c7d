"""`python -m llm_sim`."""

from __future__ import annotations

from llm_sim.cli import main

if __name__ == "__main__":
    main(prog_name="llm-sim")
