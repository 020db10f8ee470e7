#!/usr/bin/env python3
"""A build: writes a small project, runs its tests, packs it into one file, runs that, and says its checksum."""

import hashlib
import pathlib
import subprocess
import sys
import zipapp

SOURCE = """
def greet(name):
    return "Hello, " + name + "!"
"""
MAIN = """
import sys
from greeting import greet
print(greet(sys.argv[1]))
"""
TESTS = """
import unittest
from greeting import greet

class Greeting(unittest.TestCase):
    def test_it_names_whom_it_greets(self):
        self.assertEqual(greet("you"), "Hello, you!")
"""


def step(words, *command):
    print(f"== {words}", flush=True)
    subprocess.run(command, check=True, cwd="project")


project = pathlib.Path("project")
project.mkdir()
for name, content in {"greeting.py": SOURCE, "__main__.py": MAIN, "test_greeting.py": TESTS}.items():
    (project / name).write_text(content)
step("compile", sys.executable, "-m", "compileall", "-q", ".")
step("test", sys.executable, "-m", "unittest", "-v")
print("== pack", flush=True)
artifact = pathlib.Path("greet.pyz")
zipapp.create_archive(
    project, artifact, interpreter="/usr/bin/env python3", filter=lambda path: path.suffix == ".py"
)
step("run what was built", sys.executable, str(artifact.resolve()), "builder")
print(
    f"{artifact}: {artifact.stat().st_size} bytes, sha256 {hashlib.sha256(artifact.read_bytes()).hexdigest()}"
)
