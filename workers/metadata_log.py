"""The controller's own copy of the metadata log: append, sync, then publish.

`__cluster_metadata-0` is an ordinary log. `stage` appends and replays, which only the controller sees;
`commit` syncs, and only then moves its row, which is what everybody else follows (R). Whatever depends on a
staged record is said after `commit`.
"""

import os
import time
from collections.abc import Sequence

from tailrace.core.ids import METADATA_TOPIC_ID
from tailrace.core.log.directory import RealDirectory
from tailrace.core.log.log import Log
from tailrace.core.log.log_config import LogConfig
from tailrace.core.metadata.batches import batch_of
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.records import Record
from tailrace.shm import state_table as rows
from tailrace.shm.state_table import RowWriter, topic_id_words
from tailrace.workers.data_dir import METADATA_LOG
from tailrace.workers.metadata_follower import MetadataReader, metadata_row
from tailrace.workers.process import ProcessContext

SEGMENT_BYTES = 64 * 1024 * 1024
BATCH_BYTES_MAX = 8 * 1024 * 1024  # every row of the state table in one batch takes less than 1 MiB


class MetadataLog:
    """Records in, an image that is ahead of the commit by what is staged."""

    def __init__(self, log: Log, metadata_dir: str, row: RowWriter, *, owner: int) -> None:
        """`log` has recovered; all that it holds is replayed here."""
        self.image = MetadataImage()
        self._log = log
        self._row = row
        self._owner = owner
        MetadataReader(metadata_dir).advance(self.image, log.log_end_offset)
        self._epoch = log.leader_epochs.latest + 1  # one leader an epoch: each controller takes its own (R)
        self._dirty = True

    @property
    def epoch(self) -> int:
        """The epoch in which its controller decides."""
        return self._epoch

    def stage(self, records: Sequence[Record], now_ms: int) -> None:
        """Append one batch and replay it; KafkaError when the disk does not take it, and then nothing has
        happened.
        """
        self._log.append_as_leader(batch_of(records, now_ms), self._epoch, now_ms, from_client=False)
        self.image.replay(records, self._log.log_end_offset)
        self._dirty = True

    def commit(self) -> None:
        """Everything staged is on disk, then everybody may see it."""
        if self._dirty:
            self._log.flush(self._log.log_end_offset)
            self._log.high_watermark = self._log.log_end_offset
            self._publish()
            self._dirty = False

    def _publish(self) -> None:
        log, values = self._log, self._row.values
        values[rows.TOPIC_ID_HI], values[rows.TOPIC_ID_LO] = topic_id_words(METADATA_TOPIC_ID)
        values[rows.PARTITION] = 0
        values[rows.ROW_GENERATION] = 1
        values[rows.ROLE] = rows.ROLE_LEADER
        values[rows.LEADER_EPOCH] = self._epoch
        values[rows.LOG_START_OFFSET] = log.log_start_offset
        values[rows.LOG_END_OFFSET] = log.log_end_offset
        values[rows.HIGH_WATERMARK] = log.log_end_offset
        values[rows.HIGH_WATERMARK_POSITION] = log.active_position
        values[rows.LAST_STABLE_OFFSET] = log.log_end_offset
        values[rows.HW_SEGMENT_BASE_OFFSET] = log.active_base_offset
        values[rows.ACTIVE_SEGMENT_BASE_OFFSET] = log.active_base_offset
        values[rows.SEGMENT_GENERATION] = log.segment_generation
        values[rows.OWNER] = self._owner
        self._row.publish()

    def close(self) -> None:
        """The last of an orderly stop."""
        self._log.close(True)


def open_metadata_log(context: ProcessContext) -> MetadataLog:
    """Open or make it in the data directory; it is recovered from its recovery point, as any log."""
    directory = RealDirectory(os.path.join(context.log_dirs.metadata_dir, METADATA_LOG))
    row = RowWriter(context.state_table, metadata_row(context.broker))
    log = Log.open(
        directory,
        METADATA_LOG,
        LogConfig(segment_bytes=SEGMENT_BYTES, max_message_bytes=BATCH_BYTES_MAX),
        now_ms=time.time_ns() // 1_000_000,
        high_watermark=row.values[rows.HIGH_WATERMARK],  # committed by a dead predecessor of this run
        topic_id=METADATA_TOPIC_ID,
    )
    return MetadataLog(
        log,
        context.log_dirs.metadata_dir,
        row,
        owner=context.slot << 32 | context.incarnation,
    )
