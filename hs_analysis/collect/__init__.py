"""Getting the data: the range queries a study needs, as a plan, and the client that runs it on a server."""
