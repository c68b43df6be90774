"""What crosses the controller's Unix socket."""
