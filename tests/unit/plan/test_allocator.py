"""The replayed allocator does what ggml-alloc.c does: best fit, joined holes, results in place."""

from __future__ import annotations

from llmstack.plan.allocator import NodeList, Size

ONE: Size = (("x", 1),)
TWO: Size = (("x", 2),)
THREE: Size = (("x", 3),)


def peak(nodes: NodeList) -> int:
    program = nodes.program()
    return program.peak([sum(amount for _, amount in size) for size in program.table])


def test_a_tensor_takes_the_smallest_hole_that_holds_it() -> None:
    nodes = NodeList()
    large, kept, small = nodes.allocate(THREE), nodes.allocate(ONE), nodes.allocate(TWO)
    end = nodes.allocate(ONE)
    nodes.consume(large, small)
    two = nodes.allocate(TWO)  # into the hole of two, so that three still fit the larger one
    three = nodes.allocate(THREE)
    nodes.consume(kept, end, two, three)
    assert peak(nodes) == 7


def test_a_tensor_that_fits_no_hole_goes_to_the_end() -> None:
    nodes = NodeList()
    first, kept = nodes.allocate(ONE), nodes.allocate(ONE)
    nodes.consume(first)
    nodes.consume(kept, nodes.allocate(TWO))
    assert peak(nodes) == 4


def test_neighbouring_holes_are_joined() -> None:
    nodes = NodeList()
    one, two, kept = nodes.allocate(ONE), nodes.allocate(TWO), nodes.allocate(ONE)
    nodes.consume(one)
    nodes.consume(two)
    nodes.consume(kept, nodes.allocate(THREE))
    assert peak(nodes) == 4


def test_a_result_takes_over_a_source_that_nothing_else_reads() -> None:
    nodes = NodeList()
    nodes.consume(nodes.in_place(TWO, nodes.allocate(TWO)))
    assert peak(nodes) == 2


def test_a_source_with_another_reader_or_size_is_not_taken_over() -> None:
    nodes = NodeList()
    source = nodes.allocate(TWO)
    nodes.consume(source, nodes.in_place(TWO, source))
    assert peak(nodes) == 4
    nodes = NodeList()
    nodes.consume(nodes.in_place(ONE, nodes.allocate(TWO)))
    assert peak(nodes) == 3


def test_what_nothing_reads_is_never_freed() -> None:
    nodes = NodeList()
    nodes.allocate(TWO)
    nodes.consume(nodes.allocate(THREE))
    nodes.consume(nodes.allocate(THREE))
    assert peak(nodes) == 5


def test_an_input_is_copied_at_the_start_of_the_first_part_that_reads_it() -> None:
    nodes = NodeList()
    early, late = nodes.copy_in(ONE), nodes.copy_in(TWO)
    first = nodes.allocate(ONE, early)
    nodes.consume(first)
    nodes.split()
    second = nodes.allocate(ONE)
    nodes.consume(second, late)
    program = nodes.program()
    sizes = [program.table[program.sizes[step]] for step in program.steps if step >= 0]
    assert sizes == [ONE, ONE, TWO, ONE]  # the copy, its reader; then the late copy before anything of its part


def test_an_input_stays_until_its_last_reader_in_any_part() -> None:
    def nodes(*, again: bool) -> NodeList:
        made = NodeList()
        kept = made.copy_in(TWO)
        made.consume(made.allocate(ONE, kept))
        made.split()
        made.consume(made.allocate(THREE, *((kept,) if again else ())))
        return made

    assert peak(nodes(again=True)) == 5
    assert peak(nodes(again=False)) == 3
