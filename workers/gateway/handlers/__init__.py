"""One module an API, each with `handle(gateway, request)`."""
