"""Inventory files (Ansible's YAML format) to hosts and partitions, each value with its origin."""
