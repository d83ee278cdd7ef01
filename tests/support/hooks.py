"""Doors of the command line to processes that are not there."""


def no_supervisor(_data_dir: str, _what: str, _broker: int, _timeout_s: float) -> None:
    """Nothing runs on any directory."""
