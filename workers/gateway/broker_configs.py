"""The broker's keys as they are now: those it was started with, and those altered since."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.core.config_entries import BrokerConfigs
from tailrace.core.metadata.records import RESOURCE_BROKER

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway


def broker_configs(gateway: Gateway) -> BrokerConfigs:
    """As of the gateway's image."""
    context, configs = gateway.context, gateway.image.configs
    own = configs.get((RESOURCE_BROKER, str(context.node_id)), {})
    return BrokerConfigs(context.config, own, configs.get((RESOURCE_BROKER, ""), {}))
