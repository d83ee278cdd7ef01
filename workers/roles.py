"""Which code runs in which role: the one place that imports every role, before the first fork."""

from tailrace.shm.slots import CONTROLLER, GATEWAY, HOUSEKEEPER, WORKER
from tailrace.workers import housekeeper, quorum_member, worker
from tailrace.workers.gateway import main as gateway
from tailrace.workers.process import Roles

ROLES: Roles = {
    CONTROLLER: quorum_member.run,
    GATEWAY: gateway.run,
    HOUSEKEEPER: housekeeper.run,
    WORKER: worker.run,
}
