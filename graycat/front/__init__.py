"""The front of a web process: how many connections it takes, how long each may be silent, and errors before Flask."""
