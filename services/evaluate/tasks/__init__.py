"""Tasks with one right answer, made from a seed (``generate``) or read from a file, and the check of an answer."""

from services.evaluate.tasks.check import code_of, correct
from services.evaluate.tasks.generate import generated
from services.evaluate.tasks.read import read
from services.evaluate.tasks.task import Task, TaskError

__all__ = ["Task", "TaskError", "code_of", "correct", "generated", "read"]
