"""Counts checks and prints the failed ones."""

import traceback
from collections.abc import Callable


class Report:
    """A check is a name and its list of problems; it passed if the list is empty."""

    def __init__(self, verbose: bool):
        self.verbose = verbose
        self.passed = 0
        self.failed = 0

    def check(self, name: str, problems: list[str]) -> None:
        if problems:
            self.failed += 1
            print(f"FAILED  {name}")
            for problem in problems:
                print(f"        {problem}")
        else:
            self.passed += 1
            if self.verbose:
                print(f"ok      {name}")

    def section(self, name: str, run: Callable[[], None]) -> None:
        """Runs a group of checks. One that breaks off, because a file cannot even be read, fails and lets the others run."""
        try:
            run()
            problems = []
        except Exception as error:  # whatever it is, it belongs into the count
            where = traceback.extract_tb(error.__traceback__)[-1]
            problems = [*f"{type(error).__name__}: {error}".splitlines()[:12], f"at {where.name}, line {where.lineno}"]
        self.check(f"{name}: all checks ran", problems)

    def close(self) -> int:
        """Prints the counts alone on the last line and gives the exit code. No check at all is a failure."""
        print(f"{self.passed} passed, {self.failed} failed")
        return 0 if self.passed and not self.failed else 1
