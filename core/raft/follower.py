"""Who follows a leader: fetches, appends, syncs, and says so by its next fetch.

One fetch is under way at a time. (R) It is sent when all that the log holds is on disk, for that is what its
offset says. An answer is taken only if it is of this epoch and of the fetch that is under way; a batch only
at the end of the log. An observer does the same, and never asks for votes.
"""

from typing import TYPE_CHECKING

from tailrace.core.errors import NOT_LEADER_OR_FOLLOWER, SNAPSHOT_NOT_FOUND, KafkaError
from tailrace.core.raft.effects import InstallSnapshot
from tailrace.core.raft.messages import (
    NO_LEADER,
    FetchResponse,
    FetchSnapshotRequest,
    FetchSnapshotResponse,
)
from tailrace.core.raft.raft_log import note_voters, split_batches, truncation_point
from tailrace.core.raft.roles import FOREVER, Role
from tailrace.core.raft.snapshot import SnapshotFetch

if TYPE_CHECKING:
    from tailrace.core.raft.node import RaftNode

NOTHING = -1


class Follower(Role):
    """See the module."""

    name = "follower"
    has_leader = True

    def __init__(self, node: "RaftNode", leader_id: int, now_ms: int) -> None:
        super().__init__(node)
        self.leader_id = leader_id
        self._asked = NOTHING  # the number of the request that is under way
        self._snapshot: SnapshotFetch | None = None
        self._fetch_at = now_ms  # not before
        self._ask_again_at = FOREVER
        self._heard_ms = now_ms  # or heard of
        self._has_heard = False
        self._set_deadline(now_ms)

    @property
    def hears_leader(self) -> bool:
        return self._has_heard

    def on_leader_heard(self, now_ms: int) -> None:
        """It lives."""
        self._heard_ms, self._has_heard = now_ms, True
        self._set_deadline(now_ms)

    def _set_deadline(self, now_ms: int) -> None:
        timeout = self._heard_ms + self.node.settings.fetch_timeout_ms
        if self._asked != NOTHING:
            next_at = self._ask_again_at
        else:  # what could be fetched now waits for the disk, and not for time
            next_at = self._fetch_at if self._fetch_at > now_ms else FOREVER
        self.deadline_ms = min(timeout, next_at)

    def tick(self, now_ms: int) -> None:
        node = self.node
        if now_ms >= self._heard_ms + node.settings.fetch_timeout_ms:
            if node.is_voter:
                node.become_prospective(now_ms)
            else:
                node.become_unattached(node.epoch, now_ms)
            return
        if self._asked != NOTHING and now_ms >= self._ask_again_at:
            self._asked = NOTHING  # the request or its answer was lost
        self._set_deadline(now_ms)

    def before_effects(self, now_ms: int) -> None:
        """Fetches, if nothing is to be waited for."""
        node = self.node
        if (
            self._asked != NOTHING
            or now_ms < self._fetch_at
            or node.installing is not None
            or node.synced_offset < node.log.log_end_offset  # (R) the offset says what is on disk
        ):
            return
        if self._snapshot is not None:
            self._asked = node.next_number()
            node.send(self.leader_id, FetchSnapshotRequest(
                self._asked, node.epoch, node.key, self._snapshot.snapshot_id, self._snapshot.position,
                node.settings.snapshot_piece_bytes,
            ))  # fmt: skip
        else:
            request = node.fetch_request(max_wait_ms=node.settings.fetch_wait_ms)
            self._asked = request.number
            node.send(self.leader_id, request)
        self._ask_again_at = now_ms + node.settings.request_timeout_ms
        self._set_deadline(now_ms)

    def on_fetch_response(self, response: FetchResponse, now_ms: int) -> None:
        if response.number != self._asked:
            return
        self._asked = NOTHING
        node = self.node
        if response.error_code == NOT_LEADER_OR_FOLLOWER and response.leader_id == NO_LEADER:
            node.leader_is_gone = True  # it says so itself, and never leads this epoch again
            node.become_unattached(node.epoch, now_ms)
            return
        if response.error_code:
            self._retry_later(now_ms)
            return
        self._fetch_at = now_ms
        if response.snapshot_id is not None:
            self._snapshot = SnapshotFetch(response.snapshot_id)
        elif response.diverging is not None:
            node.truncate(truncation_point(node.log, response.diverging), now_ms)
        elif response.records:
            try:
                self._append(response.records, now_ms)
            except KafkaError:  # a full disk, or a batch that broke on its way: asked for again
                self._retry_later(now_ms)
        if response.snapshot_id is None and response.diverging is None:
            # the leader has checked that this log is a beginning of its own
            node.commit(min(response.high_watermark, node.log.log_end_offset))
        self.on_leader_heard(now_ms)

    def _retry_later(self, now_ms: int) -> None:
        self._fetch_at = now_ms + self.node.settings.retry_ms
        self._set_deadline(now_ms)

    def _append(self, records: bytes, now_ms: int) -> None:
        node = self.node
        for batch in split_batches(records):
            if batch.base_offset != node.log.log_end_offset:
                return
            assert node.log.last_epoch <= batch.epoch <= node.epoch, "epochs never go back"
            node.log.append_as_follower(batch.data, node.wall(now_ms))
            note_voters(node.voters, batch)

    def on_fetch_snapshot_response(self, response: FetchSnapshotResponse, now_ms: int) -> None:
        node, snapshot = self.node, self._snapshot
        if response.number != self._asked or snapshot is None:
            return
        self._asked = NOTHING
        self._fetch_at = now_ms
        if response.error_code or not snapshot.takes(response):
            self._snapshot = None  # there is a newer one: the next fetch says which
            if response.error_code not in (0, SNAPSHOT_NOT_FOUND):
                self._retry_later(now_ms)
            return
        node.log.write_snapshot(snapshot.snapshot_id, snapshot.position, response.piece)
        if snapshot.advance(response):
            self._snapshot = None
            if snapshot.snapshot_id.offset > node.high_watermark:
                node.installing = snapshot.snapshot_id
                node.effects.append(InstallSnapshot(snapshot.snapshot_id))
        self.on_leader_heard(now_ms)
