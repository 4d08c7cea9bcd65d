"""What a client needs to get on with the embedded broker (librdkafka's own, made for one machine)."""

from __future__ import annotations

import time
from collections.abc import Mapping

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

FETCH_MAX_WAIT_MS = 2  # the embedded broker holds an empty fetch for the whole wait, also when a message comes meanwhile
LEADER_DELAY_SECONDS = 0.2


class PatientRoundRobin(RoundRobinPartitionAssignor):  # type: ignore[misc]  # aiokafka has no types
    """Round robin by a leader that is slower than its followers: the embedded broker refuses a follower's late SyncGroup.

    It blocks the leader's event loop for 0.2 s in each rebalance, so it is for the embedded broker only.
    """

    @classmethod
    def assign(
        cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        if len(members) > 1:
            time.sleep(LEADER_DELAY_SECONDS)
        assignment: dict[str, ConsumerProtocolMemberAssignment] = super().assign(cluster, members)
        return assignment
