"""The same work on other queues, written plainly: open the seal, claim, call, complete."""
