"""Each number of ``pitfalls.md`` has a test that is named with it: the marker ``pitfall``."""

from __future__ import annotations

import ast
import functools
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parents[1]
NUMBERS = range(1, 41)


def numbers(node: ast.expr) -> Iterator[int]:
    """The numbers of one decorator, if it is our marker's."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.pitfall":
        for argument in node.args:
            assert isinstance(argument, ast.Constant)
            assert isinstance(argument.value, int)
            yield argument.value


@functools.cache
def held() -> dict[int, list[str]]:
    """The tests that hold each number, found without running them."""
    found: dict[int, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                continue
            for decorator in node.decorator_list:
                for number in numbers(decorator):
                    assert node.name.lower().startswith("test"), f"{path.name}: {node.name} is no test"
                    found[number].append(f"{path.name}::{node.name}")
    return found


@pytest.mark.parametrize("number", NUMBERS)
def test_every_number_has_a_test(number: int) -> None:
    assert held()[number], f"nothing holds number {number}"


def test_no_other_number_is_claimed() -> None:
    assert set(held()) == set(NUMBERS)


def test_tests_named_with_a_number_are_marked_with_it() -> None:
    for number, tests in held().items():
        for test in tests:
            name = test.partition("::")[2]
            if name.startswith("test_pitfall_"):
                assert name.split("_")[2] == f"{number:02}", test
