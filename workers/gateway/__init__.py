"""The gateway: the process that holds the clients' connections and answers their requests."""
