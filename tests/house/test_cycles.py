"""No import cycles: not at run time, not through a function's late import."""

from __future__ import annotations

from tests.house import sources


def _graph() -> dict[str, set[str]]:
    known = {each.name for each in sources.modules()}
    return {
        module.name: {each.module for each in module.imports() if not each.typing_only and each.module in known}
        - {module.name}
        for module in sources.modules()
    }


def _cycle(graph: dict[str, set[str]]) -> list[str]:
    """One cycle of `graph`, its first name repeated at the end; empty if there is none."""
    done: set[str] = set()
    for start in sorted(graph):
        path: list[str] = []
        stack = [(start, iter(sorted(graph[start])))] if start not in done else []
        path = [start]
        while stack:
            name, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                done.add(name)
                stack.pop()
                path.pop()
            elif following in path:
                return [*path[path.index(following) :], following]
            elif following not in done:
                stack.append((following, iter(sorted(graph[following]))))
                path.append(following)
    return []


def test_no_module_imports_itself_through_others() -> None:
    cycle = _cycle(_graph())
    assert not cycle, f"an import cycle: {' -> '.join(cycle)}"


def test_a_cycle_is_found() -> None:
    assert _cycle({"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]
    assert _cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
