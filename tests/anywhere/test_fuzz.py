"""A short form of the fuzzer; ``python -m tests.anywhere.fuzz`` is the long one."""

from tests.anywhere import processes


def test_odd_arguments_give_a_right_result_or_an_error():
    script = """
        import sys
        from tests.anywhere import fuzz
        sys.argv = ["fuzz", "--cases", "1500", "--seed", "7"]
        fuzz.main()
    """
    *_, last = processes.run(script, "-W", "ignore")
    assert last.endswith(", 0 bugs"), last
