"""Which partition makes its worker die again and again.

A worker names the row it is about to touch before it touches it. Deaths in a row that name the same row are
that partition's; time arrives as an argument.
"""

DEATHS_MAX = 3
FORGET_S = 60.0  # deaths further apart than this are no row of deaths


class Blame:
    """Deaths in a row, by row of the state table."""

    def __init__(self) -> None:
        self._deaths: dict[int, tuple[int, float]] = {}

    def on_death(self, row: int, now_s: float, *, disk_fault: bool = False) -> bool:
        """A worker died at this row. True: the partition is to be quarantined.

        A disk fault (SIGBUS: the page could not be read) needs no repetition: the next attempt would touch
        the same page.
        """
        count, last_s = self._deaths.pop(row, (0, now_s))
        count = 1 if now_s - last_s > FORGET_S else count + 1
        if disk_fault or count >= DEATHS_MAX:
            return True
        self._deaths[row] = (count, now_s)
        return False
