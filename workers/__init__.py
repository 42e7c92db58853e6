"""What is done: actors, providers, rules, the scheduler, the command line."""
