"""The broker keys of the controllers' quorum and its log; the columns are those of config_keys.Key."""

from typing import Final

from tailrace.core.config_group_keys import Row

QUORUM_KEYS: Final[list[Row]] = [
    (
        "controller.quorum.auto.join.enable",
        "BOOLEAN",
        False,
        None,
        None,
        "whether a controller that was no voter is made one; those with a new disk are voters again anyhow",
        (),
    ),
    (
        "controller.quorum.election.timeout.ms",
        "INT",
        200,
        0,
        None,
        "how long to wait for votes, or for whoever may be elected: up to twice that",
        (),
    ),
    (
        "controller.quorum.fetch.max.bytes",
        "INT",
        1_048_576,
        1,
        None,
        "most bytes of one fetch of the metadata log, but for its first batch; here never above 256 KiB",
        (),
    ),
    (
        "controller.quorum.fetch.snapshot.max.bytes",
        "INT",
        1_048_576,
        1,
        None,
        "most bytes of one fetch of a snapshot of the metadata; here never above 64 KiB",
        (),
    ),
    (
        "controller.quorum.fetch.timeout.ms",
        "INT",
        2000,
        0,
        None,
        "without word of a leader so long, controllers elect another",
        (),
    ),
    (
        "controller.quorum.request.timeout.ms",
        "INT",
        2000,
        0,
        None,
        "without an answer so long, a controller asks again",
        (),
    ),
    (
        "metadata.log.max.record.bytes.between.snapshots",
        "LONG",
        20_971_520,
        1,
        None,
        "bytes of metadata records until a snapshot is taken",
        (),
    ),
    (
        "metadata.log.max.snapshot.interval.ms",
        "LONG",
        3_600_000,
        0,
        None,
        "longest time until one is taken if anything is new; 0: no such time",
        (),
    ),
    (
        "unclean.leader.election.interval.ms",
        "LONG",
        300_000,
        1,
        None,
        "pause between two looks for partitions without a leader that may have one that is not in sync",
        (),
    ),
]
