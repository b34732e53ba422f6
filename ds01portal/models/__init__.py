"""Rows that both apps stand on: people, quotas, operations, events."""

from ds01portal.models.event import Event, Update
from ds01portal.models.operation import Operation
from ds01portal.models.person import Person
from ds01portal.models.quota import LimitField, Quota

__all__ = ["Event", "LimitField", "Operation", "Person", "Quota", "Update"]
