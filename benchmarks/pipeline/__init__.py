"""What the pipeline costs, and how it reads what models write, beside other readers; see `__main__`."""
