"""Every table and queue of the gateway has a bound: whoever adds one names it here, and in LIMITS.md."""

import ast

from tests.tidy.sources import ROOT, sources

CONTAINERS = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp)
CALLS = {"set", "dict", "list", "deque", "defaultdict", "SimpleQueue"}

# What each holds as many of, at most: a constant, a key, or things that are bounded themselves.
BOUNDED_BY = {
    "auto_creation.py _making": "WAITING_MAX",
    "brokers.py _known": "brokers of this host",
    "cold_reads.py warmed": "COLD_AT_ONCE",
    "connection.py out": "OUTPUT_PIECES_MAX",
    "connection.py requests": "PIPELINE_MAX",
    "controller_requests.py _asked": "connections",
    "controller_requests.py _held": "connections",
    "doorkeeper.py _counts": "addresses of one config value",
    "doorkeeper.py _overrides": "entries of one config value",
    "gateway.py connections": "max.connections",
    "gateway.py starved": "connections",
    "gateway.py unfinished": "connections",
    "gateway.py unflushed": "connections",
    "listener.py _sockets": "listeners",
    "long_polls.py _all": "connections",
    "long_polls.py _by_row": "PARTITIONS_MAX",
    "long_polls.py _of_connection": "connections",
    "long_polls.py rows": "PARTITIONS_MAX",
    "outstanding.py _pushed": "workers",
    "outstanding.py _shown": "workers",
    "outstanding.py _workers": "workers",
    "outstanding.py waiting": "REQUESTS_MAX",
    "partition_questions.py _waiting": "entries of one request",
    "partitions.py _by_id": "rows of the state table",
    "partitions.py _readers": "DESCRIPTORS_A_READER",
    "partitions.py held": "HELD_MAX",
    "partitions.py waiting": "rows of the state table",
    "produce_timeouts.py _waiting": "REQUESTS_MAX",
    "producer_ids.py _waiting": "connections",
}


def containers(path: str, text: str) -> set[str]:
    """The attributes that begin as an empty table or queue."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        is_call = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in CALLS
        if is_call or isinstance(value, CONTAINERS):
            found |= {
                f"{path.rsplit('/', 1)[1]} {target.attr}"
                for target in targets
                if isinstance(target, ast.Attribute)
            }
    return found


def test_every_table_of_the_gateway_says_what_bounds_it() -> None:
    files = [
        source
        for source in sources()
        if source.path.startswith("workers/gateway/") and "/handlers/" not in source.path
    ]
    found = set[str]().union(*(containers(source.path, source.text) for source in files))
    assert found == BOUNDED_BY.keys()


def test_every_bound_that_is_a_constant_is_there() -> None:
    text = "\n".join(source.text for source in sources() if source.layer in ("core", "shm", "workers"))
    missing = {bound for bound in BOUNDED_BY.values() if bound.isupper() and f"\n{bound}" not in text}
    assert missing == set()


def test_limits_has_a_table_of_bounds() -> None:
    assert "\n## Bounds\n" in (ROOT / "LIMITS.md").read_text()
