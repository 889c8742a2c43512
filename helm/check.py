"""Checks topics/ and helm/ without a cluster and without a network: `helm/check.sh` runs it in its own environment.

Prints one line for each failure and, last, `N passed, N failed`; exits 1 when anything failed.
"""

import argparse
import sys
import time

from checks import refusals, releases, sources, topics
from checks.renderer import choose_renderer
from checks.report import Report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-v", "--verbose", action="store_true", help="list the checks that passed, too")
    parser.add_argument("--sdk", action="store_true", help="use helm-python-sdk even when there is a helm on the PATH")
    arguments = parser.parse_args()

    started = time.monotonic()
    report = Report(arguments.verbose)
    renderer = choose_renderer(sdk_only=arguments.sdk)
    report.section("topics", lambda: topics.check(report))
    report.section("sources", lambda: sources.check(report, renderer))
    report.section("releases", lambda: releases.check(report, renderer))
    report.section("refusals", lambda: refusals.check(report, renderer))
    print(f"helm and topics checked with {renderer.version} in {time.monotonic() - started:.1f} s")
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
