"""The queues of the system: those of incoming events, and the one inside."""

from events.registry import QUEUES

VALIDATIONS_QUEUE = "validations"
"""Keys that are to be validated; only workers and schedulers send on it."""

ALL_QUEUES = tuple(sorted((*QUEUES, VALIDATIONS_QUEUE)))
