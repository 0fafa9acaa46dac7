"""The replayed allocator does what ggml-alloc.c does: best fit, joined holes, results in place."""

from __future__ import annotations

from llmstack.plan.allocator import Size, Tape

ONE: Size = (("x", 1),)
TWO: Size = (("x", 2),)
THREE: Size = (("x", 3),)


def peak(tape: Tape) -> int:
    program = tape.program()
    return program.peak([sum(amount for _, amount in size) for size in program.table])


def test_a_tensor_takes_the_smallest_hole_that_holds_it() -> None:
    tape = Tape()
    large, kept, small = tape.new(THREE), tape.new(ONE), tape.new(TWO)
    end = tape.new(ONE)
    tape.read(large, small)
    two = tape.new(TWO)  # into the hole of two, so that three still fit the larger one
    three = tape.new(THREE)
    tape.read(kept, end, two, three)
    assert peak(tape) == 7


def test_a_tensor_that_fits_no_hole_goes_to_the_end() -> None:
    tape = Tape()
    first, kept = tape.new(ONE), tape.new(ONE)
    tape.read(first)
    tape.read(kept, tape.new(TWO))
    assert peak(tape) == 4


def test_neighbouring_holes_are_joined() -> None:
    tape = Tape()
    one, two, kept = tape.new(ONE), tape.new(TWO), tape.new(ONE)
    tape.read(one)
    tape.read(two)
    tape.read(kept, tape.new(THREE))
    assert peak(tape) == 4


def test_a_result_takes_over_a_source_that_nothing_else_reads() -> None:
    tape = Tape()
    tape.read(tape.over(TWO, tape.new(TWO)))
    assert peak(tape) == 2


def test_a_source_with_another_reader_or_size_is_not_taken_over() -> None:
    tape = Tape()
    source = tape.new(TWO)
    tape.read(source, tape.over(TWO, source))
    assert peak(tape) == 4
    tape = Tape()
    tape.read(tape.over(ONE, tape.new(TWO)))
    assert peak(tape) == 3


def test_what_nothing_reads_is_never_freed() -> None:
    tape = Tape()
    tape.new(TWO)
    tape.read(tape.new(THREE))
    tape.read(tape.new(THREE))
    assert peak(tape) == 5


def test_an_input_is_copied_at_the_start_of_the_first_part_that_reads_it() -> None:
    tape = Tape()
    early, late = tape.input(ONE), tape.input(TWO)
    first = tape.new(ONE, early)
    tape.read(first)
    tape.part()
    second = tape.new(ONE)
    tape.read(second, late)
    program = tape.program()
    sizes = [program.table[program.sizes[step]] for step in program.steps if step >= 0]
    assert sizes == [ONE, ONE, TWO, ONE]  # the copy, its reader; then the late copy before anything of its part


def test_an_input_stays_until_its_last_reader_in_any_part() -> None:
    def tape(*, again: bool) -> Tape:
        made = Tape()
        kept = made.input(TWO)
        made.read(made.new(ONE, kept))
        made.part()
        made.read(made.new(THREE, *((kept,) if again else ())))
        return made

    assert peak(tape(again=True)) == 5
    assert peak(tape(again=False)) == 3
