"""The identifiers of Kafka's world: names for plain values, and the text form of uuids."""

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from typing import NewType

TopicId = NewType("TopicId", bytes)  # 16 raw bytes
ProducerId = NewType("ProducerId", int)
NodeId = NewType("NodeId", int)
Offset = NewType("Offset", int)

ZERO_UUID = bytes(16)
METADATA_TOPIC_ID = TopicId(bytes(15) + b"\x01")  # Kafka keeps it for its own metadata log

_TO_TEXT = bytes.maketrans(b"+/", b"-_")
_FROM_TEXT = bytes.maketrans(b"-_", b"+/")


def uuid_text(raw: bytes) -> str:
    """The 22 characters Kafka writes for a uuid: base64 for URLs without padding."""
    if len(raw) != 16:
        raise ValueError(f"a uuid has 16 bytes, not {len(raw)}")
    return b2a_base64(raw, newline=False).translate(_TO_TEXT)[:22].decode()


def parse_uuid(text: str) -> bytes:
    """The 16 bytes of a uuid in Kafka's text form; ValueError if it is none."""
    try:
        raw = a2b_base64(text.encode("ascii").translate(_FROM_TEXT) + b"==", strict_mode=True)
    except (Base64Error, UnicodeEncodeError) as error:
        raise ValueError(f"{text!r} is not a uuid") from error
    if len(raw) != 16:
        raise ValueError(f"{text!r} is not a uuid")
    return raw


def is_usable_uuid(raw: bytes) -> bool:
    """Whether a random uuid may be given out: not reserved, and its text not like a command line option."""
    return len(raw) == 16 and raw not in (ZERO_UUID, METADATA_TOPIC_ID) and not uuid_text(raw).startswith("-")
