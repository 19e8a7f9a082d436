"""What `run.py` does, one job a file. Only jobs print and write."""
