"""Whatever bytes come in, every parser ends in a value or in its own error: shown by many, and kept shown by a few.

    make fuzz MINUTES=10                       all targets, two processes, a table; exit code 1 on any finding
    make fuzz MINUTES=2 ARGS="network commit"  these two
    make fuzz ARGS="--replay FILE network"     one input again, with its traceback

A target (target.Target) is a name, a function from bytes to nothing, the errors a caller of that parser expects, and
seeds. The function also asserts what must hold of an input that was accepted: it encodes to the same bytes again, the
other side reads the same out of it, the board takes what the office wrote. A finding is

    crash    any other exception, an AssertionError of the target's own among them
    slow     more than Target.slow_ms of the processor's time; what does not end is ended then
    growth   objects or memory that stay after inputs are gone

fuzzing.py fuzzes one target in a process of its own, steered by coverage (atheris, that is libFuzzer); campaign.py has
all targets fuzzed in turn; corpus.py keeps the inputs worth keeping: few, short, one zip for each target in corpus/,
and every input that was ever a finding under its name in regressions/. test_corpus.py tries all of these every day.
What speaks HTTP is asked by schemathesis (services.py); parsers that run on the board are asked there as well, and must
say the same (test_on_board.py).
"""
