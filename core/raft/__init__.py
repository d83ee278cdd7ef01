"""Raft as Kafka has it (KRaft), without I/O: `RaftNode` in node.py is where to begin."""

from tailrace.core.raft.messages import decode_message, encode_message
from tailrace.core.raft.node import RaftNode
from tailrace.core.raft.quorum_state import decode_quorum_state, encode_quorum_state
from tailrace.core.raft.stored_log import StoredLog

__all__ = [
    "RaftNode",
    "StoredLog",
    "decode_message",
    "decode_quorum_state",
    "encode_message",
    "encode_quorum_state",
]
