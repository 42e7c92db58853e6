"""Usage events: from the queue into the ledger."""
