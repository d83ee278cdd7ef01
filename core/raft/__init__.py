"""Raft as Kafka has it (KRaft), without I/O: `RaftNode` in node.py is where to begin."""
