"""How a log gets room for the next batch, whoever it comes from: rolls, reservations, epochs, snapshots."""

from msgspec.structs import replace

from tailrace.core.errors import NOT_LEADER_OR_FOLLOWER, KafkaError
from tailrace.core.log import checkpoints, recovery
from tailrace.core.log.directory import DiskFullError, is_full, storage_error
from tailrace.core.log.flush import FlushedLog
from tailrace.core.log.segment import ActiveSegment, Segment
from tailrace.core.log.snapshots import write_snapshot

SNAPSHOT_RETRY_BYTES = 1024 * 1024  # appended until it is tried again, when a disk was too full for it
EXPIRY_CHECK_MS = 600_000  # Kafka's producer.id.expiration.check.interval.ms


class RollingLog(FlushedLog):
    """The part of a log that goes on in a new segment when the old one is full, or old."""

    def _use(self, active: ActiveSegment) -> None:
        """Appends go here now. The mark comes last: it says that the segments before are cut."""
        self._active = active
        # (R) after a truncation: or it counts as synced since a roll that is still to come
        self._unsynced = [name for name in self._unsynced if name != active.file.name]
        self._name_changes += 1
        self.segment_generation += 1
        self._set_limits()
        device, inode = active.file.identity()
        mark = checkpoints.TrustMark(
            boot_id=self._boot_id, device=device, inode=inode, base_offset=active.base_offset
        )
        try:
            checkpoints.write_trust_mark(self.directory, mark)
        except OSError as error:
            if not is_full(error):  # without the mark a recovery only reads more
                raise storage_error(error, f"cannot mark the active segment of {self.name}") from error

    def _begin_segment(self, timestamp: int) -> None:
        self._active.first_timestamp = timestamp
        self._set_limits()

    def _reserve(self, end: int, now_ms: int) -> None:
        """More of the active file on disk; the housekeeper hears what will be stored to next."""
        file = self._active.file
        before = file.reserved
        if self._goes_the_long_way and end <= before:
            self._active.limit = before
            return
        self._active.reserve(end, now_ms)
        self._active.limit = min(self._active.limit, self._config.segment_bytes)
        if self.on_prefault is not None and file.reserved > before:
            self.on_prefault(file.name, before, file.reserved - before)

    def tick(self, now_ms: int) -> None:
        """Now and then: forgets silent producers, bounds what a recovery replays."""
        if now_ms >= self._next_expiry_ms:
            self._next_expiry_ms = now_ms + EXPIRY_CHECK_MS
            if self._producers is not None:
                self._producers.expire(now_ms, self._config.producer_id_expiration_ms)
        self._take_due_snapshot()

    def _begin_epoch(self, leader_epoch: int, start_offset: int) -> None:
        """The next batch, at `start_offset`, is the first of this epoch; KafkaError if that is over."""
        if leader_epoch < self._epoch:
            raise KafkaError(
                NOT_LEADER_OR_FOLLOWER, f"leader epoch {leader_epoch} is older than {self._epoch}"
            )
        try:
            self._epochs.assign(leader_epoch, start_offset)
        except OSError as error:
            raise storage_error(error, f"cannot begin epoch {leader_epoch} of {self.name}") from error
        self._epoch = leader_epoch

    def roll(self, now_ms: int, *, for_deletion: bool = False) -> None:
        """Closes the active segment, cut to its end, and goes on in a new one; an empty one stays.

        If there is no room for a new one the log goes on in the old one, and the KafkaError says so. For a
        deletion, which makes room, the disk's reserve may be used.
        """
        if self._active.end:
            self._take_snapshot(for_deletion=for_deletion)
            self._replace_active(now_ms)

    def _replace_active(self, now_ms: int, size_min: int = 0) -> None:
        """The new segment is made before the old one is given up; an empty one gives way to a namesake.
        `size_min`: of the first batch, which may be larger than segment.bytes.
        """
        old, segment = self._active, Segment(base_offset=self.log_end_offset)
        try:
            old.index_last_timestamp()
            config = self._config
            if size_min > config.segment_bytes:
                config = replace(config, segment_bytes=size_min)
            active = ActiveSegment(self.directory, config, segment, now_ms=now_ms)
        except (OSError, KafkaError) as error:
            if segment.base_offset != old.base_offset:
                recovery.remove_segment(self.directory, segment.base_offset)
            if isinstance(error, KafkaError):
                raise
            raise storage_error(error, f"cannot roll {self.name}") from error
        try:
            closed = old.close(cut=old.end > 0)  # the namesake of an empty one is the same inode
        except OSError as error:  # half of it is unmapped: nothing can be appended any more
            active.close(cut=False)
            self._closed = True
            raise storage_error(error, f"cannot close a segment of {self.name}") from error
        if closed.size:
            self._segments.append(closed)
            self._unsynced.append(closed.log_name)
        self._use(active)

    def _take_due_snapshot(self) -> None:
        if self._snapshot_due <= 0:
            try:
                self._take_snapshot()
            except DiskFullError:  # a recovery replays more
                self._snapshot_due = SNAPSHOT_RETRY_BYTES

    def _take_snapshot(self, *, for_deletion: bool = False) -> None:
        bases, end = [segment.base_offset for segment in self.segments], self.log_end_offset
        self._name_changes += 1
        try:
            write_snapshot(self.directory, end, self.producers, bases, for_deletion=for_deletion)
        except OSError as error:
            raise storage_error(error, f"cannot write the producers of {self.name}") from error
        self._snapshot_due = self._config.snapshot_interval_bytes
