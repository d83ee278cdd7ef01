"""The group coordinator: sans-IO state machines that replay __consumer_offsets."""
