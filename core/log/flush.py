"""How far a log is on the disk: syncs, which may run in another thread than its owner's, and what they prove.

Rules (R), each with a test:
- the recovery point moves up only after the sync that it stands for, and not if a truncation came between;
- it moves down, also where it is written down, before the log is cut below it;
- a segment counts as synced when it was synced after its roll: only then is it as long as what it holds;
- after a sync that failed nothing is believed of the page cache: the kernel calls pages clean that are not.
"""

from contextlib import suppress
from errno import EIO

from msgspec import Struct

from tailrace.core.log import checkpoints, recovery
from tailrace.core.log.directory import Directory, storage_error
from tailrace.core.log.log_view import LogView
from tailrace.core.log.segment import (
    INDEX_SUFFIX,
    LOG_SUFFIX,
    SNAPSHOT_SUFFIX,
    TIME_INDEX_SUFFIX,
    file_name,
    offset_of,
)

NO_BOOT = "-"  # a boot id that no machine has


class SyncFailedError(OSError):
    """The disk did not take what it was given; a second try could only seem to succeed."""


class Flush(Struct, kw_only=True):
    """A sync under way: `run` may be called in any thread, then `Log.flushed` in the owner's."""

    directory: Directory
    names: list[str]
    rolled: list[str]  # those of them that are .log files of rolled segments
    end_offset: int
    segment_base_offset: int  # where that is: the segment, and how far in it
    position: int
    name_changes: int | None  # how many there were, None: all of them were on the disk before
    cut_count: int

    def run(self) -> None:
        """Returns when the log below end_offset is on the disk; SyncFailedError if it may not be.

        One call to the disk, if nothing but the active file has changed since the last one.
        """
        has_names = self.name_changes is not None
        try:
            for name in self.names:
                try:
                    self.directory.sync_file(name)
                except FileNotFoundError:
                    # deleted by retention meanwhile, or no epoch yet: nothing of it has to last. (R) Unless
                    # all of the log has vanished: then there is no directory to sync
                    has_names = True
            if has_names:
                self.directory.sync()
        except OSError as error:
            # EIO whatever it says (R): also one for want of room may have lost pages, see `is_full`
            raise SyncFailedError(EIO, error.strerror or str(error)) from error


class FlushedLog(LogView):
    """The part of a log that knows what of it is on the disk."""

    def begin_flush(self, *, rolled_only: bool = False) -> Flush:
        """What must be synced for all that is in the log now, or in its rolled segments, to last; `run` it in
        any thread, then call `flushed`.
        """
        if not self._epochs.is_written:
            try:
                self._epochs.write(durable=False)
                self._name_changes += 1
            except OSError as error:
                raise storage_error(error, f"cannot write the epochs of {self.name}") from error
        active = self._active
        has_changed = self._name_changes != self._name_changes_synced
        names = self._changed_files() if has_changed else []
        if not rolled_only:
            names.append(active.file.name)
        return Flush(
            directory=self.directory,
            names=names,
            rolled=list(self._unsynced),
            end_offset=active.base_offset if rolled_only else self.log_end_offset,
            segment_base_offset=active.base_offset,
            position=0 if rolled_only else active.end,
            name_changes=self._name_changes if has_changed else None,
            cut_count=self._cut_count,
        )

    def _changed_files(self) -> list[str]:
        """Those besides the active one that may not be on the disk."""
        names: list[str] = []
        bases = [offset_of(name, LOG_SUFFIX) or 0 for name in self._unsynced]
        for base in bases:  # what is trusted unread below the recovery point: indexes too
            names += [file_name(base, suffix) for suffix in (LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX)]
        # or producers would be read again from batches below the recovery point
        names += [file_name(base, SNAPSHOT_SUFFIX) for base in (*bases, self._active.base_offset)]
        # and where epochs began: whichever version is there now, it knows at least those of what is there now
        return [*names, checkpoints.LEADER_EPOCHS]

    def begin_due_flush(self, now_ms: int) -> Flush | None:
        """The flush that it is time for: of everything by flush.ms, or of what was rolled."""
        if now_ms - self._flushed_ms >= self._config.flush_ms:
            self._flushed_ms = now_ms
            if self.log_end_offset > self.recovery_point:
                return self.begin_flush()
        return self.begin_flush(rolled_only=True) if self._unsynced else None

    def flushed(self, flush: Flush) -> bool:
        """The flush has run: the recovery point moves up. False: it proves nothing, a truncation came
        between.
        """
        if flush.cut_count != self._cut_count:  # (R) what it synced was cut, and others may be in its place
            return False
        if flush.name_changes is not None:
            self._name_changes_synced = flush.name_changes
        self._unsynced = [name for name in self._unsynced if name not in flush.rolled]
        self.recovery_point = max(self.recovery_point, flush.end_offset)
        return True

    def flush(self, up_to: int | None = None) -> None:
        """Returns when the log (at least below `up_to`) is on the disk."""
        if up_to is not None and up_to <= self.recovery_point:
            return
        flush = self.begin_flush()
        try:
            flush.run()
        except OSError as error:
            raise storage_error(error, f"cannot sync {self.name}") from error
        self.flushed(flush)

    def flush_by_count(self) -> None:
        """flush.messages: returns when so many records are not left unsynced; SyncFailedError."""
        if self.log_end_offset - self.recovery_point >= self._config.flush_messages:
            flush = self.begin_flush()
            flush.run()
            self.flushed(flush)

    def distrust_page_cache(self) -> None:
        """A sync failed (R): the next open checks every batch from the recovery point on."""
        mark = checkpoints.TrustMark(boot_id=NO_BOOT, device=0, inode=0, base_offset=0)
        with suppress(OSError):
            checkpoints.write_trust_mark(self.directory, mark)

    def _lower_recovery_point(self, offset: int) -> None:
        """Before the log is cut at `offset`, or where the batch around it begins (R): what is written down
        goes back to the start of that segment.
        """
        self._cut_count += 1
        if offset < self.recovery_point and self.on_lowered is not None:
            self.on_lowered(max((s.base_offset for s in self.segments if s.base_offset <= offset), default=0))

    def _start_at(self, offset: int) -> None:
        """The log starts there, and it is written down."""
        if self.on_start_moved is not None:
            self.on_start_moved(offset)  # (R) before anything is removed, or appended below where it was
        self.log_start_offset = offset

    def _remove_deleted(self) -> None:
        """Segments below the start go, on the disk some time later: by then nobody asks for them."""
        before = len(self._segments)
        bases = recovery.remove_deleted(self.directory, self.log_start_offset)
        self._segments = [segment for segment in self._segments if segment.base_offset >= bases[0]]
        self._unsynced = [name for name in self._unsynced if (offset_of(name, LOG_SUFFIX) or 0) >= bases[0]]
        if len(self._segments) < before:
            self.segment_generation += 1  # readers let go of their descriptors
