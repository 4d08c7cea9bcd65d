"""The gate: which drafted tokens are asked about (DESIGN section 3).

``uncertainty`` holds the signals, ``importance`` what attention says, ``rule`` the decision, ``answer_level`` whether the
answer asks at all. All pure.
"""

from services.edge_worker.gate.answer_level import AnswerLevel, Stage
from services.edge_worker.gate.rule import Gate
from services.edge_worker.gate.uncertainty import Draws, uncertainty

__all__ = ["AnswerLevel", "Draws", "Gate", "Stage", "uncertainty"]
