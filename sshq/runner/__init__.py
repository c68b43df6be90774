"""What runs on a node (runner.sh) and how we talk to it."""
