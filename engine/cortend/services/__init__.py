"""The gRPC door: thin servicers, one converter module per noun."""
