"""How the numbers a, b, c of a step choose whom, and for how long."""

from typing import TYPE_CHECKING, Any

from .node import Node
from .plan import Step

if TYPE_CHECKING:
    from .net import Path
    from .world import World


def pick(items: list[Any], number: float) -> Any:
    return items[int(number * len(items)) % len(items)] if items else None


def span(number: float, least: float = 0.5, most: float = 900.0) -> float:
    """Seconds, as often short as long."""
    return float(least * (most / least) ** number)


def done(world: "World", step: Step) -> None:
    world.injected[step.kind] += 1


def path_of(world: "World", step: Step) -> "Path":
    for found in world.paths.values():
        if found.node.name == step.node:
            return found
    path: Path = pick(sorted(world.paths.values(), key=lambda p: p.address), step.a)
    return path


def node_of(world: "World", step: Step) -> Node:
    if step.node:
        return world.nodes[step.node]
    node: Node = pick(list(world.nodes.values()), step.a)
    return node
