"""What supervisor and workers say to each other, as bytes and back."""

from pathlib import Path

import pytest

from proxy.runtime.workers.messages import Apply, Command, Drain, Frames, Level, Listen, Listening, frame
from proxy.settings import load

SHIPPED = Path(__file__).parents[3] / "config" / "fusebox.toml"
MESSAGES = [
    Command(7, "cf", "open", "it burns"),
    Listen(frozenset({1, 3})),
    Drain(),
    Level("info"),
    Listening(),
]


@pytest.mark.parametrize("piece", [1, 3, 10_000])
def test_messages_arrive_whole_and_in_order_however_they_are_cut(piece):
    stream = b"".join(map(frame, MESSAGES))
    frames = Frames()
    came = [it for at in range(0, len(stream), piece) for it in frames.feed(stream[at : at + piece])]
    assert came == MESSAGES


def test_half_a_message_is_none():
    data = frame(MESSAGES[0])
    frames = Frames()
    assert list(frames.feed(data[:-1])) == []
    assert list(frames.feed(data[-1:])) == MESSAGES[:1]


def test_a_policy_from_real_settings_survives_and_its_list_can_stay_behind():
    policy = load(SHIPPED, {}).policy()
    whole = Apply(1, policy, keeps_popularity=False)
    brief = Apply.brief(2, policy)
    assert list(Frames().feed(frame(whole) + frame(brief))) == [whole, brief]
    assert brief.policy.popularity == ()
    assert len(frame(brief)) < len(frame(whole)) / 2
