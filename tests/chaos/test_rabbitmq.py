"""A RabbitMQ node that is the test's own, and full."""

from pathlib import Path

import pytest

from events import BrokerAway, KeyTested, Publisher
from tests.chaos.services import RabbitMQ, rabbitmq_server


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_publisher_is_told_of_a_rabbitmq_whose_memory_is_full(tmp_path: Path) -> None:
    server = rabbitmq_server()
    if server is None:
        pytest.skip("there is no RabbitMQ under /usr/lib/rabbitmq")
    node = RabbitMQ(tmp_path, server)
    publisher = Publisher(node.url(node.target), source="upstream/tests")
    try:
        node.start()
        publisher.publish(KeyTested(key_id="key-1"), account="acme")
        node.set_full(True)
        with pytest.raises(BrokerAway):
            publisher.publish(KeyTested(key_id="key-2"), account="acme")
        node.set_full(False)
        publisher.publish(KeyTested(key_id="key-3"), account="acme")
    finally:
        publisher.close()
        node.close()
