"""Kafka, as a service would use it: reach, login, topics, rights, and what the topics must be like. Nothing is written."""

from __future__ import annotations

from services.cli.doctor.line import Line, State
from services.cli.errors import CommandError
from services.cli.topics import plan
from services.cli.topics.admin import admin
from services.cli.topics.plan import Topic
from services.cli.topics.settings import MOST_HOURS, TopicsSettings
from services.common.kafka.check import Needs, check
from services.common.kafka.link import KafkaLink
from services.common.keys import CANDIDATES_TOPIC, DEAD_LETTER_TOPIC

_HOUR_MS = 3_600_000
_REPAIR = "`sluice topics create --alter` repairs it"


async def lines(service: str, link: KafkaLink, needs: Needs) -> list[Line]:
    found = await check(link, needs)
    result = [Line.of(service, f"Kafka: {finding.what}", finding.problem) for finding in found]
    if link.embedded or found[0].problem:
        return result
    missing = {f.what.removeprefix("topic ") for f in found if f.problem}
    names = [topic for topic in needs.topics if topic not in missing]
    return result + await _settings(service, link, names)


async def as_wanted(settings: TopicsSettings) -> list[Line]:
    """The topics against the settings that made them, where this environment has them."""
    service = "topics"
    try:
        async with admin(settings.kafka_link) as kafka:
            wanted = plan.wanted(settings, await kafka.brokers())
            found = await kafka.find([topic.name for topic in wanted])
    except CommandError as error:
        return [Line.of(service, "Kafka: as the operator", str(error))]
    result = []
    for want in wanted:
        there = found.get(want.name)
        if there is None:
            problem = "does not exist: `sluice topics create` makes it"
        else:
            different = [f"{d.what} is {d.found}, wanted {d.wanted}" for d in plan.differences(want, there)]
            problem = f"{'; '.join(different)}: {_REPAIR}" if different else ""
        result.append(Line.of(service, f"Kafka: topic {want.name} is as SLUICE_TOPICS_* want it", problem))
    return result


async def _settings(service: str, link: KafkaLink, names: list[str]) -> list[Line]:
    try:
        async with admin(link) as kafka:
            topics = await kafka.find(names)
    except CommandError:
        detail = "its user may not read them, and need not: `sluice topics show` tells, as the operator"
        return [Line(service, f"Kafka: settings of {name}", State.UNKNOWN, detail) for name in names]
    return [Line.of(service, f"Kafka: settings of {name}", problem(topic)) for name, topic in topics.items()]


def problem(topic: Topic) -> str:
    """What would make Sluice wrong, not only slow. Pure."""
    config, wrong = topic.config, []
    if topic.name == CANDIDATES_TOPIC and config.get("message.timestamp.type") != "LogAppendTime":
        wrong.append("message.timestamp.type is CreateTime, so deadlines go by the clocks of the devices")
    if "compact" in config.get("cleanup.policy", ""):
        wrong.append("cleanup.policy is compact, so messages of a session are lost")
    if topic.name == DEAD_LETTER_TOPIC:
        kept = int(config.get("retention.ms", "-1")), int(config.get("segment.ms", "-1"))
        if min(kept) < 0 or sum(kept) > MOST_HOURS * _HOUR_MS:
            wrong.append("dead letters, which count as text, may stay longer than seven days (retention.ms and segment.ms)")
    return f"{'; '.join(wrong)}: {_REPAIR}" if wrong else ""
