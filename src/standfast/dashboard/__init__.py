"""The approver's page: server-rendered, made live by a small module of our own."""
