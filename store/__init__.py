"""What is remembered: tables, vault, credits, outbox, ledger.

Functions take the open connection as their first argument and never commit: the boundary that
opened the transaction does. Imports `events` and nothing else of ours.
"""
