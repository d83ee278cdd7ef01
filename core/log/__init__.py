"""The log of one partition: segments, indexes, checkpoints, producer state, recovery; files only through a
Directory.
"""
