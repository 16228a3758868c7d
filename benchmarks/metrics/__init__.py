"""What measuring costs: marks, memory, telemetry backends, prices; see `__main__`."""
