"""Leader epochs of a log: where each began. Epochs and their start offsets both ascend."""

from tailrace.core.log.checkpoints import read_leader_epochs, write_leader_epochs
from tailrace.core.log.directory import Directory

UNDEFINED_EPOCH = -1
UNDEFINED_OFFSET = -1


class LeaderEpochs:
    """The epochs in memory and in leader-epoch-checkpoint.

    The file is on disk after every change, as in Kafka: recovery assigns again only what batches above the
    recovery point say.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.is_written = True  # False after a write that failed
        self._entries: list[tuple[int, int]] = []
        for epoch, start in read_leader_epochs(directory):
            if not self._entries or (epoch > self._entries[-1][0] and start >= self._entries[-1][1]):
                self._entries.append((epoch, start))

    @property
    def entries(self) -> list[tuple[int, int]]:
        """(epoch, start offset), ascending."""
        return list(self._entries)

    @property
    def latest(self) -> int:
        """The newest epoch, -1 if there is none."""
        return self._entries[-1][0] if self._entries else UNDEFINED_EPOCH

    def assign(self, epoch: int, start_offset: int) -> None:
        """The next batch, at `start_offset`, is of `epoch`. An epoch that was there before or is older
        changes nothing.
        """
        if epoch <= self.latest:
            return
        before = self.entries
        while self._entries and self._entries[-1][1] >= start_offset:  # an epoch in which nothing was written
            self._entries.pop()
        self._entries.append((epoch, start_offset))
        try:
            self.write(durable=True)  # (R) a torn file would lose the epochs below the recovery point too
        except OSError:
            self._entries = before  # (R) it has not begun: the next append tries again
            raise

    def truncate_from_end(self, end_offset: int) -> None:
        """The log now ends at `end_offset`."""
        kept = [entry for entry in self._entries if entry[1] < end_offset]
        if kept != self._entries:
            self._entries = kept
            self.write(durable=True)

    def truncate_from_start(self, start_offset: int) -> None:
        """The log now starts at `start_offset`: the epoch of that offset stays, as from there."""
        older = [entry for entry in self._entries if entry[1] <= start_offset]
        if older and (len(older) > 1 or older[0][1] != start_offset):
            self._entries = [(older[-1][0], start_offset), *self._entries[len(older) :]]
            self.write(durable=True)

    def clear(self) -> None:
        """The log is empty."""
        self._entries = []
        self.write(durable=True)

    def end_offset_for(self, epoch: int, log_end_offset: int, leader_epoch: int = -1) -> tuple[int, int]:
        """(epoch, end offset) of the largest epoch not above `epoch`; (-1, -1) if unknown. As
        OffsetForLeaderEpoch.

        leader_epoch: that of the log's leader. In Kafka it begins when the leader does, here with its first
        batch: until then it counts as begun at the end.
        """
        entries = self._entries
        if leader_epoch > self.latest:
            entries = [*entries, (leader_epoch, log_end_offset)]
        if not entries or epoch == UNDEFINED_EPOCH:
            return UNDEFINED_EPOCH, UNDEFINED_OFFSET
        if epoch == entries[-1][0]:
            return epoch, log_end_offset
        following = [entry for entry in entries if entry[0] > epoch]
        if not following:  # from the future
            return UNDEFINED_EPOCH, UNDEFINED_OFFSET
        older = [entry for entry in entries if entry[0] <= epoch]
        return (older[-1][0] if older else epoch), following[0][1]

    def write(self, *, durable: bool) -> None:
        """Writes the file."""
        self.is_written = False
        write_leader_epochs(self._directory, self._entries, durable=durable)
        self.is_written = True
