"""A gateway without sockets: real image, timers and controller requests; a controller that decides at once or
when told.
"""

from types import SimpleNamespace
from typing import Any

from msgspec import Struct

from tailrace.core.config import BrokerConfig, load
from tailrace.core.errors import LEADER_NOT_AVAILABLE, NONE, KafkaError
from tailrace.core.metadata.brokers import unregister
from tailrace.core.metadata.configs import Alteration, alter_configs
from tailrace.core.metadata.elections import elect_leaders
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.leadership import LeaderRules
from tailrace.core.metadata.partitions import create_partitions
from tailrace.core.metadata.producer_ids import BLOCK_SIZE, allocate_block
from tailrace.core.metadata.reassignments import reassign
from tailrace.core.metadata.records import BrokerRegistered, Record
from tailrace.core.metadata.requests import NewTopic
from tailrace.core.metadata.topics import Decision, TopicDefaults, create_topics, delete_topics
from tailrace.core.protocol.apis import APIS, Api
from tailrace.core.protocol.compile import decoder, encoder
from tailrace.core.timers import Timers
from tailrace.workers import control
from tailrace.workers.gateway.brokers import Endpoint
from tailrace.workers.gateway.controller_requests import ControllerRequests

CONTROLLER_SLOT = 1
NODE_ID = 1
RULES = LeaderRules()
DEFAULTS = TopicDefaults(num_partitions=1, replication_factor=1, partitions_free=1000)


class FakeConnection:
    """Its address is known only while it is open."""

    def __init__(self) -> None:
        self.is_open = True

    @property
    def closed(self) -> bool:
        """As a connection says it."""
        return not self.is_open


class FakeRequest:
    """A request whose message and answers pass through the wire's form."""

    def __init__(self, key: int, version: int, message: Any) -> None:
        self.api: Api = APIS[key]
        self.version = version
        self.connection = FakeConnection()
        self.answers: list[Any] = []
        known = self.api.serves(version)
        self._body = _encoded(message, version) if known else b"\xff"

    def decode(self) -> Any:
        body = self._body
        return decoder(self.api.request, self.version)(body, 0, len(body), memoryview(body))

    def respond(self, message: Any) -> None:
        self.respond_at(message, self.version)

    def respond_at(self, message: Any, version: int) -> None:
        assert not self.answers, "a request is answered once"
        body = _encoded(message, version)
        self.answers.append(decoder(self.api.response, version)(body, 0, len(body), memoryview(body)))

    @property
    def answer(self) -> Any:
        """The only answer."""
        (answer,) = self.answers
        return answer


def _encoded(message: Struct, version: int) -> bytes:
    return b"".join(encoder(type(message), version)(message))


class FakeController:
    """Slot table, outbox and controller at once."""

    def __init__(self, gateway: "FakeGateway") -> None:
        self._gateway = gateway
        self.incarnation = 1
        self.is_full = False
        self.is_prompt = True  # answers at once
        self.sent: list[Any] = []
        self._topic_count = 0

    def active(self) -> tuple[int, int]:
        """Its slot and epoch."""
        return (CONTROLLER_SLOT, self.incarnation) if self.incarnation else (0, 0)

    def send(self, slot: int, message: Any) -> bool:
        assert slot == CONTROLLER_SLOT
        if not self.incarnation or self.is_full:
            return False
        self.sent.append(message)
        if self.is_prompt:
            self._gateway.later.append(lambda: self.answer(message))
        return True

    def answer(self, message: Any) -> None:
        """Decide, commit, and tell the gateway, whose image is moved already."""
        gateway = self._gateway
        if isinstance(message, control.AllocateProducerIds):
            allocated = allocate_block(gateway.image)
            assert allocated is not None
            gateway.commit([allocated[1]])
            gateway.controller.on_message(
                control.ProducerIds(
                    request_id=message.request_id,
                    first_producer_id=allocated[0],
                    count=BLOCK_SIZE,
                    error_code=NONE,
                )
            )
            return
        if isinstance(message, control.ElectLeaders | control.Reassign | control.UnregisterBroker):
            gateway.controller.on_message(self._change(message))
            return
        decision: Decision | Alteration = self._decide(message)
        if not getattr(message, "validate_only", False):
            gateway.commit(decision.records)
        kind: Any = control.TopicResults if isinstance(decision, Decision) else control.ConfigResults
        offset = gateway.image.metadata_offset
        gateway.controller.on_message(
            kind(request_id=message.request_id, metadata_offset=offset, results=decision.results)
        )

    def _change(
        self, message: "control.ElectLeaders | control.Reassign | control.UnregisterBroker"
    ) -> control.PartitionResults:
        image, results = self._gateway.image, []
        code, text = NONE, None
        try:
            if isinstance(message, control.ElectLeaders):
                elected = elect_leaders(image, message.election_type, message.partitions, RULES)
                records, results = elected.records, elected.results
            elif isinstance(message, control.Reassign):
                may_change = message.replication_factor_may_change
                moved = reassign(image, message.moves, RULES, replication_factor_may_change=may_change)
                records, results = moved.records, moved.results
            else:
                records = unregister(image, message.broker_id, RULES)
            self._gateway.commit(records)
        except KafkaError as error:
            code, text = error.code, error.message
        return control.PartitionResults(
            request_id=message.request_id,
            metadata_offset=image.metadata_offset,
            results=results,
            error_code=code,
            error_message=text,
        )

    def _decide(self, message: Any) -> Decision | Alteration:
        if isinstance(message, control.CreatePartitions):
            return create_partitions(self._gateway.image, message.topics, DEFAULTS.partitions_free)
        if isinstance(message, control.AlterConfigs):
            return alter_configs(
                self._gateway.image,
                message.resources,
                self._gateway.config,
                NODE_ID,
                replaces_all=message.replaces_all,
            )
        if isinstance(message, control.DeleteTopics):
            return delete_topics(self._gateway.image, message.topics, DEFAULTS)
        return create_topics(self._gateway.image, message.topics, DEFAULTS, self.new_topic_id)

    def new_topic_id(self) -> bytes:
        self._topic_count += 1
        return self._topic_count.to_bytes(16, "big")


class FakeGateway:
    """What handlers use of a gateway."""

    def __init__(self, **properties: str) -> None:
        given = {name.replace("_", "."): value for name, value in properties.items()}
        self.config: BrokerConfig = load(given)[0]
        self.image = MetadataImage()
        self.commit([BrokerRegistered(broker_id=NODE_ID, broker_epoch=0)])
        self.timers = Timers()
        self.time_ms = 1000
        self.later: list[Any] = []
        self.leaderless: dict[int, int] = {}  # partition index -> error
        self.has_leaders = True
        self.peer = FakeController(self)
        self.context = SimpleNamespace(
            config=self.config,
            cluster_id="a-cluster",
            node_id=NODE_ID,
            outbox=self.peer,
            active_controller=self.peer.active,
        )
        self.partitions = SimpleNamespace(
            error_of=self._error_of,
            is_awaited=self._is_awaited,
        )
        self.brokers = SimpleNamespace(
            is_there=self._is_there,
            controller_id=lambda: NODE_ID,
            listed=self._listed,
        )
        self.controller = ControllerRequests(self)  # type: ignore[arg-type]

    def now_ms(self) -> int:
        return self.time_ms

    def advertised(self, connection: FakeConnection) -> tuple[str, int]:
        assert connection.is_open
        return "127.0.0.1", 9092

    def commit(self, records: list[Record]) -> None:
        """Have the image take records in."""
        self.image.replay(records, self.image.metadata_offset + len(records))

    def create(self, name: str, partitions: int = 1) -> bytes:
        """A topic in the image."""
        topics = [NewTopic(name=name, num_partitions=partitions)]
        self.commit(create_topics(self.image, topics, DEFAULTS, self.peer.new_topic_id).records)
        return self.image.topics_by_name[name].topic_id

    def ask(self, handle: Any, key: int, version: int, message: Any) -> FakeRequest:
        """Have a handler take a request, and the controller answer what it was asked meanwhile."""
        request = FakeRequest(key, version, message)
        handle(self, request)
        self.run()
        return request

    def run(self) -> None:
        """Whatever has come for the gateway."""
        while self.later:
            self.later.pop(0)()

    def advance(self, milliseconds: int) -> None:
        """Let time go by in small steps."""
        end_ms = self.time_ms + milliseconds
        while self.time_ms < end_ms:
            self.time_ms = min(end_ms, self.time_ms + 1)
            self.timers.run_due(self.time_ms)
            self.run()

    @staticmethod
    def _is_there(node_id: int) -> bool:
        return node_id == NODE_ID

    def _listed(self, connection: FakeConnection) -> list[Endpoint]:
        return [Endpoint(NODE_ID, *self.advertised(connection), self.config.rack)]

    def _is_awaited(self, topic_id: bytes, partition: int) -> bool:
        return self._error_of(topic_id, partition) == LEADER_NOT_AVAILABLE

    def _error_of(self, _topic_id: bytes, partition: int) -> int:
        if not self.has_leaders:
            return LEADER_NOT_AVAILABLE
        return self.leaderless.get(partition, NONE)
