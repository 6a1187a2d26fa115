"""What every long-running process of ours needs at its edge: a port, a server, log lines, error bodies."""
