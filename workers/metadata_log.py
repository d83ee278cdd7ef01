"""The controller's own copy of the metadata log, and the image that it decides on.

`__cluster_metadata-0` is an ordinary log, which the quorum replicates (quorum.py). `stage` appends and
replays, which only the controller sees; what is committed moves the row that all processes of its broker
follow. Whatever depends on a staged record is said once `is_committed` (R).

The image of a controller that leads is ahead of the commit by what is staged; that of another is at the
commit. One that stops leading ends with what it had staged (quorum_member.py). Snapshots are taken of it
while it is at the commit (metadata_snapshots.py).
"""

import os
import time
from collections.abc import Sequence

from tailrace.core.errors import KafkaError
from tailrace.core.ids import METADATA_TOPIC_ID
from tailrace.core.log.directory import RealDirectory
from tailrace.core.log.log import Log
from tailrace.core.log.log_config import LogConfig
from tailrace.core.metadata.batches import batch_of
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.records import Record
from tailrace.shm import state_table as rows
from tailrace.shm.state_table import RowWriter, topic_id_words
from tailrace.workers.control import Raft
from tailrace.workers.data_dir import METADATA_LOG
from tailrace.workers.metadata_follower import MetadataReader, metadata_row
from tailrace.workers.metadata_snapshots import Snapshots
from tailrace.workers.process import ProcessContext
from tailrace.workers.quorum import Quorum

SEGMENT_BYTES = 64 * 1024 * 1024
BATCH_BYTES_MAX = 8 * 1024 * 1024  # every row of the state table in one batch takes less than 1 MiB


class MetadataLog:
    """Records in, an image out."""

    def __init__(self, context: ProcessContext, directory: RealDirectory, log: Log, row: RowWriter) -> None:
        """`log` has recovered and is on the disk."""
        self._context, self._log, self._row = context, log, row
        self.image = MetadataImage()
        self._reader = MetadataReader(context.log_dirs.metadata_dir)
        self._led_in = 0
        committed = row.values[rows.HIGH_WATERMARK]  # by a dead predecessor of this run
        self.quorum = Quorum(
            context, directory, log, high_watermark=committed, on_committed=self._on_committed
        )
        self._snapshots = Snapshots(context.config, self.quorum.stored, context.doorbell.wake)
        self._new_bytes = 0  # of batches in the image that the next snapshot's schedule has not heard of

    @property
    def epoch(self) -> int:
        """The epoch in which its controller decides, 0: it does not."""
        return self.quorum.leads_in

    @property
    def is_committed(self) -> bool:
        """Whether nothing staged is left to be committed."""
        return self.quorum.is_committed

    @property
    def refused(self) -> KafkaError | None:
        """Why this controller's last append was; None: it was not."""
        return self.quorum.stored.refused

    def step(self, message: Raft) -> None:
        """Another controller's."""
        self.quorum.step(message)

    def turn(self) -> None:
        """All that the quorum has to do now, and the image as far as it may be known."""
        self.quorum.turn()
        epoch = self.quorum.leads_in
        if not self._led_in:
            self._new_bytes += self._reader.advance(self.image, self.quorum.node.high_watermark)
            if epoch:  # its own first batch is committed, and it alone appends from here on
                self._new_bytes += self._reader.advance(self.image, self._log.log_end_offset)
            self._led_in = epoch
        if self.image.metadata_offset == self.quorum.node.high_watermark:
            new_bytes, self._new_bytes = self._new_bytes, 0
            self._snapshots.look(self.image, new_bytes, self.quorum.node.voters.at)

    def stage(self, records: Sequence[Record], now_ms: int) -> None:
        """Append one batch and replay it; KafkaError when the disk does not take it, or this controller does
        not lead any more, and then nothing has happened.
        """
        batch = batch_of(records, now_ms)
        end_offset = self.quorum.append(batch)
        self.image.replay(records, end_offset)
        self._new_bytes += len(batch)

    def commit(self) -> None:
        """Returns when all that was staged is committed, or this controller leads no more."""
        self.turn()
        while self.epoch and not self.is_committed:
            self._context.pause(self.quorum.wait_s(1.0))
            self.turn()

    def mark_taken_over(self) -> None:
        """For the controllers that come later in this run."""
        self._row.values[rows.RECOVERY_POINT] = self.epoch
        self._row.publish()

    def _on_committed(self, high_watermark: int) -> None:
        log, values = self._log, self._row.values
        base, position = log.active_base_offset, log.active_position
        if high_watermark < log.log_end_offset:
            base, position = log.place_of(high_watermark)
        node = self.quorum.node
        values[rows.TOPIC_ID_HI], values[rows.TOPIC_ID_LO] = topic_id_words(METADATA_TOPIC_ID)
        values[rows.PARTITION] = 0
        values[rows.ROW_GENERATION] = 1
        values[rows.ROLE] = rows.ROLE_LEADER if node.is_leader else rows.ROLE_FOLLOWER
        values[rows.LEADER_EPOCH] = node.epoch
        values[rows.LOG_START_OFFSET] = log.log_start_offset
        values[rows.LOG_END_OFFSET] = log.log_end_offset
        values[rows.HIGH_WATERMARK] = high_watermark
        values[rows.HIGH_WATERMARK_POSITION] = position
        values[rows.LAST_STABLE_OFFSET] = high_watermark
        values[rows.HW_SEGMENT_BASE_OFFSET] = base
        values[rows.ACTIVE_SEGMENT_BASE_OFFSET] = log.active_base_offset
        values[rows.SEGMENT_GENERATION] = log.segment_generation
        values[rows.OWNER] = self._context.slot << 32 | self._context.incarnation
        self._row.publish()

    def close(self) -> None:
        """The last of an orderly stop."""
        self._snapshots.close()
        self.quorum.close()
        self._log.close(True)


def open_metadata_log(context: ProcessContext) -> MetadataLog:
    """Open or make it in the data directory; it is recovered from its recovery point, as any log, and all
    that it holds is synced: what a dead predecessor had not is as good as what it had (R). A quorum of one
    leads when this returns.
    """
    directory = RealDirectory(os.path.join(context.log_dirs.metadata_dir, METADATA_LOG))
    row = RowWriter(context.state_table, metadata_row(context.broker))
    log = Log.open(
        directory,
        METADATA_LOG,
        LogConfig(segment_bytes=SEGMENT_BYTES, max_message_bytes=BATCH_BYTES_MAX),
        now_ms=time.time_ns() // 1_000_000,
        high_watermark=row.values[rows.HIGH_WATERMARK],
        topic_id=METADATA_TOPIC_ID,
    )
    log.flush()
    metadata_log = MetadataLog(context, directory, log, row)
    metadata_log.turn()
    return metadata_log
