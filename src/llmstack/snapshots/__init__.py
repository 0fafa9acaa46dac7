"""Saved KV states on disk: what they may be restored into, their validation, their budget."""

from llmstack.snapshots.calls import Call, CallLog
from llmstack.snapshots.seal import Served, folder_name, seal, served
from llmstack.snapshots.store import Entry, Store

__all__ = ["Call", "CallLog", "Entry", "Served", "Store", "folder_name", "seal", "served"]
