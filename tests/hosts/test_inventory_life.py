"""The inventory edited while the controller runs: what joins, what goes, what is refused and what is told."""
