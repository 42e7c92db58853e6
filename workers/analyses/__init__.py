"""What is done for an analysis: reading the mail, the rules, the question, the answer."""
