"""Producer ids are handed to gateways in blocks, so that InitProducerId seldom needs the controller."""

from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.records import ProducerIdsBlock

BLOCK_SIZE = 1000  # as Kafka's
PRODUCER_ID_MAX = 2**63 - 1


def allocate_block(image: MetadataImage, pending: int = 0) -> tuple[int, ProducerIdsBlock] | None:
    """The first id of the next block and the record that takes it; None when there are no ids left.

    `pending` blocks were taken before in the same, not yet replayed, batch.
    """
    first = image.next_producer_id + pending * BLOCK_SIZE
    if first > PRODUCER_ID_MAX - BLOCK_SIZE:
        return None
    return first, ProducerIdsBlock(next_producer_id=first + BLOCK_SIZE)
