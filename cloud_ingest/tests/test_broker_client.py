"""The socket that reads ahead, and acknowledgements of many messages in one writing."""

from __future__ import annotations

import socket

import pytest

from cloud_ingest.broker_client import GreedySocket
from cloud_ingest.configuration import BrokerSettings
from cloud_ingest.subscriber import Inbox, Message, Subscriber
from cloud_ingest.tests.field import Broker, batch, minutes, records_topic, until


def test_what_was_read_ahead_is_given_in_pieces_and_known_to_be_pending() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        greedy = GreedySocket(ours)
        theirs.sendall(b"abcdef")
        assert (greedy.recv(1), greedy.pending(), greedy.recv(100), greedy.pending()) == (b"a", 5, b"bcdef", 0)
        with pytest.raises(BlockingIOError):
            greedy.recv(1)
        assert greedy.fileno() == ours.fileno()
        theirs.close()
        assert greedy.recv(1) == b""


def payload(number: int) -> bytes:
    return batch(minutes(1, first_seq=1 + 2 * number))


def take(inbox: Inbox, number: int) -> list[Message]:
    taken: list[Message] = []

    def all_are_here() -> bool:
        taken.extend(inbox.take(1_000_000, 0.1))
        return len(taken) >= number

    until(all_are_here, f"{number} messages")
    return taken


def test_only_what_was_not_acknowledged_comes_again(broker: Broker) -> None:
    inbox = Inbox()
    first = Subscriber(BrokerSettings(port=broker.port), inbox)
    first.start()
    until(lambda: first.connected, "the connection")
    for at in range(300):
        first.publish(records_topic("xuan-hoa"), payload(at), qos=1)
    taken = take(inbox, 300)
    first.acknowledge(taken[:200])
    first.stop()

    again = Inbox()
    second = Subscriber(BrokerSettings(port=broker.port), again)
    second.start()
    left = take(again, 100)
    second.acknowledge(left)
    second.stop()
    assert [one.payload for one in taken] == [payload(at) for at in range(300)]
    assert [one.payload for one in left] == [payload(at) for at in range(200, 300)]
