"""A task on its way: submit it, wait for its events, stream them, and notice a client that disconnects."""
