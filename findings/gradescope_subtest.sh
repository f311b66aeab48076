#!/bin/sh
# A test with subtests of which one fails is not in the results that gradescope-utils writes: the student
# sees no failed test and no points lost, only a lower sum. Where all subtests pass it is there.
set -eu
. "$(dirname "$0")/environment.sh"

python_with gradescope-utils==0.5.0 <<'PY'
import io
import json
import unittest
from importlib.metadata import version

from gradescope_utils.autograder_utils.decorators import weight
from gradescope_utils.autograder_utils.json_test_runner import JSONTestRunner


class Tests(unittest.TestCase):
    @weight(2)
    def test_failing(self):
        self.assertEqual(1 + 1, 3)

    @weight(2)
    def test_failing_subtest(self):
        for number in (2, 3):
            with self.subTest(number=number):
                self.assertEqual(1 + 1, number)

    @weight(2)
    def test_passing_subtests(self):
        for number in (2, 2):
            with self.subTest(number=number):
                self.assertEqual(1 + 1, number)


written = io.StringIO()
result = JSONTestRunner(stream=written).run(unittest.defaultTestLoader.loadTestsFromTestCase(Tests))
report = json.loads(written.getvalue())
points = {test["name"].split()[0]: f"{test['score']:g} of {test['max_score']:g}" for test in report["tests"]}
print(f"gradescope-utils {version('gradescope-utils')}: {result.testsRun} tests run, {len(result.failures)} failures; ", end="")
print(f"reported, of 2 points each: {points}")
assert (result.testsRun, len(result.failures)) == (3, 2)
assert points == {"test_failing": "0 of 2", "test_passing_subtests": "2 of 2"}
PY
