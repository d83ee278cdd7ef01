"""LIMITS.md names every request that is advertised, with its versions, and no other."""

import re
from pathlib import Path

from tailrace.core.protocol.apis import APIS

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = re.compile(r"(\d+)(?:-(\d+))?")


def test_the_table_of_requests_is_what_is_advertised() -> None:
    table = (ROOT / "LIMITS.md").read_text().split("## Per request")[1].split("\n\n")[1]
    listed: dict[str, tuple[int, int]] = {}
    for line in table.splitlines()[2:]:
        names, versions = (cell.strip().split(", ") for cell in line.split("|")[1:3])
        for name, text in zip(names, versions, strict=True):
            found = VERSIONS.fullmatch(text)
            assert found, line
            listed[name] = (int(found[1]), int(found[2] or found[1]))
    advertised = {api.name: (api.min_version, api.max_version) for api in APIS.values()}
    advertised["Produce"] = (3, advertised["Produce"][1])  # 0-2 only for librdkafka's sake, as the table says
    assert listed == advertised
