"""What is seen: instruments and the exporter. Imports none of the other packages."""
