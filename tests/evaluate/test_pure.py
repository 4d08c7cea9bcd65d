"""The pure parts of the evaluation against numbers that were worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.special import exp1

from services.common.energy import profiles
from services.common.energy.profiles import Device, ProfileError, Server
from services.evaluate import similarity
from services.evaluate.bootstrap import Resampled
from services.evaluate.link import Channel, Link
from services.evaluate.modelled import World, run
from services.evaluate.trace import Exchange, Record

LINK = Link(name="l", uplink_hz=1e3, downlink_hz=2e3, snr_db=10 * math.log10(3), fading=False, rtt_seconds=0.2)
DEVICE = Device(name="d", step_seconds=0.1, draft_watts=5.0, idle_watts=1.0, transmit_watts=2.0, receive_watts=3.0)
SERVER = Server(name="s", pass_seconds=0.05, token_seconds=0.01, watts=100.0, sessions_per_pass=2.0, queue_seconds=0.5)


# -- bootstrap --------------------------------------------------------------------------------------------------------


def test_intervals_are_paired() -> None:
    """One method is always 0.1 above the other, on prompts that differ much: the difference has no spread, each mean has."""
    rng = np.random.default_rng(1)
    hard, ones = rng.uniform(0, 0.8, 50), np.ones(50)
    draws = Resampled(50, 7, samples=400)
    difference = draws.difference(hard + 0.1, ones, hard, ones)
    assert difference.value == pytest.approx(0.1)
    assert difference.low == pytest.approx(0.1)
    assert difference.high == pytest.approx(0.1)
    mean = draws.ratio(hard, ones)
    assert mean.value is not None
    assert mean.low is not None
    assert mean.high is not None
    error = hard.std() / math.sqrt(50)
    assert mean.high - mean.low == pytest.approx(2 * 1.96 * error, rel=0.2)
    assert draws.relative(2 * hard, ones, hard, ones).value == pytest.approx(2.0)
    assert Resampled(50, 7, samples=400).ratio(hard, ones) == mean
    assert draws.ratio(hard, np.zeros(50)).reason == "nothing to divide by"


# -- link, device, server ---------------------------------------------------------------------------------------------


def test_the_rate_is_shannons_and_fading_averages_to_the_known_integral() -> None:
    assert LINK.rate(1e3, 1.0) == pytest.approx(2e3)  # log2(1 + 3)
    assert LINK.air_seconds(100, 1.0, up=True) == pytest.approx(0.4)
    gains = np.random.default_rng(2).exponential(size=20_000)
    faded = LINK.model_copy(update={"least_gain": 1e-9})
    mean = np.mean([faded.rate(1.0, g) for g in gains])
    assert mean == pytest.approx(math.exp(1 / 3) * exp1(1 / 3) / math.log(2), rel=0.02)
    assert LINK.rate(1.0, 0.0) == LINK.rate(1.0, LINK.least_gain)


def test_loss_and_jitter_cost_what_they_cost_on_average() -> None:
    lossy = LINK.model_copy(update={"loss": 0.5, "jitter_seconds": 0.01})
    channel = Channel(lossy, np.random.default_rng(3))
    seconds = np.mean([channel.send(100, up=True)[0] for _ in range(20_000)])
    # two tries on average: 0.8 s on air, one round trip more, half of one, and sqrt(2 / pi) of the jitter
    assert seconds == pytest.approx(0.8 + 0.2 + 0.1 + 0.01 * math.sqrt(2 / math.pi), rel=0.02)


def test_outages_end_each_period() -> None:
    channel = Channel(LINK.model_copy(update={"outage_every_seconds": 10.0, "outage_seconds": 4.0}), np.random.default_rng(4))
    waits = np.array([channel.down_for(t) for t in np.linspace(0, 20, 2001)])
    assert (waits > 0).mean() == pytest.approx(0.4, abs=0.01)
    assert waits.max() == pytest.approx(4.0, abs=0.02)
    assert channel.down_for(3.0) == pytest.approx(channel.down_for(13.0))


def record(**changes: object) -> Record:
    values: dict[str, object] = {
        "method": "u-hlm",
        "prompt": 0,
        "text": "",
        "answered": 5,
        "judged": 2,
        "bonus": 1,
        "audit_sum": 0.5,
        "steps": 4,
        "measured_seconds": 1.0,
        "open_bytes": 50,
        "prompt_fed": 10,
        "exchanges": (Exchange(3, 100, 40, 6, 2),),
    }
    return Record(**{**values, **changes})  # type: ignore[arg-type]


def test_a_session_by_hand() -> None:
    """Open: 0.2 s on air, 0.1 s way, 0.5 s queue, 0.15 s pass: ready at 0.95. Three steps: 0.3; upload 0.4 + 0.1: there at 0.8,
    waits for the prompt until 0.95; queue and pass 0.61; verdict 0.08 + 0.1; last step 0.1."""
    found = run(record(), World(LINK, DEVICE, SERVER), patient=True, seed=1)
    assert found.seconds == pytest.approx(0.95 + 0.61 + 0.18 + 0.1)
    assert found.radio_joules == pytest.approx(2.0 * 0.6 + 3.0 * 0.08)
    assert found.device_joules == pytest.approx(5.0 * 0.4 + 1.0 * (1.84 - 0.4 - 0.6 - 0.08))
    assert found.server_joules == pytest.approx(100.0 * (2 * 0.05 / 2 + 0.01 * 16))
    local = run(record(open_bytes=0, prompt_fed=0, exchanges=()), World(LINK, DEVICE, SERVER), patient=True, seed=1)
    assert local.seconds == pytest.approx(0.4)
    assert local.joules == pytest.approx(2.0)


def test_the_large_model_beside_its_user_and_far_away() -> None:
    alone = record(method="llm", exchanges=(), streamed=True, steps=0, open_bytes=0)
    near = run(alone, World(LINK, DEVICE, SERVER), patient=True, seed=1)
    server = 0.5 + 0.15 + 4 * 0.06
    assert near.seconds == pytest.approx(server)
    assert near.joules == near.server_joules == pytest.approx(100.0 * (5 * 0.025 + 0.01 * 14))
    far = record(method="remote-llm", exchanges=(), streamed=True, steps=0, open_bytes=50, down_bytes=5 * 40)
    found = run(far, World(LINK, DEVICE, SERVER), patient=True, seed=1)
    assert found.seconds == pytest.approx(0.3 + server + 0.18)
    assert found.radio_joules == pytest.approx(2.0 * 0.2 + 3.0 * 5 * 0.08)


def test_in_an_outage_the_impatient_go_on_and_say_so() -> None:
    """A link that is nearly always down: one waits it out, the other goes on after its deadline; then its breaker is open."""
    down = LINK.model_copy(update={"outage_every_seconds": 1000.0, "outage_seconds": 999.9})
    asked = record(exchanges=(Exchange(2, 100, 40, 6, 2), Exchange(2, 100, 40, 6, 3)))
    waits = run(asked, World(down, DEVICE, SERVER, 2.0), patient=True, seed=5)
    goes_on = run(asked, World(down, DEVICE, SERVER, 2.0), patient=False, seed=5)
    assert waits.unverified == 0
    assert goes_on.unverified == 5
    assert goes_on.seconds == pytest.approx(0.4 + 2.0)
    assert waits.seconds > 10 * goes_on.seconds


def test_a_verdict_that_comes_too_late_is_none() -> None:
    slow = World(LINK.model_copy(update={"rtt_seconds": 10.0}), DEVICE, SERVER, 2.0)
    found = run(record(), slow, patient=False, seed=1)
    assert found.unverified == 2
    assert found.seconds == pytest.approx(0.4 + 2.0)
    assert found.server_joules == run(record(), slow, patient=True, seed=1).server_joules  # it was judged, in vain


def test_profiles_are_data(tmp_path: Path) -> None:
    assert profiles.load(Device, "jetson").draft_watts > profiles.load(Device, "phone").draft_watts
    assert profiles.load(Link, "thin").outage_seconds > 0
    own = tmp_path / "own.toml"
    own.write_text('[[server]]\nname = "a"\npass_seconds = 1\ntoken_seconds = 0\nwatts = 7\n')
    assert profiles.load(Server, str(own)).watts == 7.0
    assert profiles.load(Server, f"{own}:a").joules(2, 9) == 14.0
    with pytest.raises(ProfileError, match="choose one of a"):
        profiles.load(Server, f"{own}:b")
    own.write_text('[[server]]\nname = "a"\n')
    with pytest.raises(ProfileError, match="pass_seconds"):
        profiles.load(Server, str(own))
    with pytest.raises(ProfileError, match="cell, thin"):
        profiles.load(Link, "moon")


# -- likeness ---------------------------------------------------------------------------------------------------------


def test_cosine_and_bertscore_by_hand() -> None:
    assert similarity.cosine(np.array([3.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(math.sqrt(0.5))
    candidate, reference = np.array([[2.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    # precision 1 (the one token is found), recall (1 + 0) / 2
    assert similarity.bertscore(candidate, reference) == pytest.approx(2 / 3)
    assert similarity.bertscore(reference, reference) == pytest.approx(1.0)


def test_a_record_survives_its_line() -> None:
    made = record(correct=True)
    assert Record.from_json(made.to_json()) == made
    assert (made.up_bytes, made.passes, made.fed) == (150, 2, 6)
