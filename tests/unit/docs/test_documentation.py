"""The documentation fits the code: generated pages are current, links lead somewhere, commands and options exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import typer.main
from support.documentation import PAGES, Block, blocks, links
from support.platform import CHECKOUT

from hodei.cli.main import app
from hodei.settings import PREFIX, unknown_variables


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", CHECKOUT / "docs/generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", list(generator().PAGES))
def test_a_generated_page_is_what_the_code_says_now(name: str) -> None:
    # given
    committed = (CHECKOUT / "docs/reference" / name).read_text(encoding="utf-8")

    # when
    generated = generator().PAGES[name]()

    # then
    assert committed == generated, "run: ./run just docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    # when
    dead = [link for link in links(page) if not (page.parent / link.partition("#")[0]).exists()]

    # then
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_variable_that_a_page_names_exists(page: Path) -> None:
    # when
    named = set(re.findall(rf"\b{PREFIX}[A-Z0-9_]+\b", page.read_text(encoding="utf-8")))

    # then
    assert unknown_variables(dict.fromkeys(named, "1")) == []


def hodei_commands() -> list[tuple[str, list[str]]]:
    """Where, and the words of every ``hodei`` command line in the documentation."""
    found = []
    for block in blocks("sh", "sh run", "sh docker", "sh kubernetes"):
        for line in block.text.replace("\\\n", " ").splitlines():
            found += [(str(block), words) for words in _commands_in(line)]
    return found


def _commands_in(line: str) -> list[list[str]]:
    commands: list[list[str]] = [[]]
    lexer = shlex.shlex(line.replace("$(", "; ").replace("JOB_ID=; ", ""), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    for word in lexer:
        if word and set(word) <= set("();<>|&"):
            commands.append([])
        else:
            commands[-1].append(word)
    starts = ((words, words.index("hodei")) for words in commands if "hodei" in words)
    return [
        words[at + 1 :] for words, at in starts if all(word == "./run" or "=" in word for word in words[:at])
    ]


@pytest.mark.parametrize(("where", "words"), hodei_commands(), ids=lambda value: str(value)[:60])
def test_a_documented_command_and_its_options_exist(where: str, words: list[str]) -> None:
    # given
    command = typer.main.get_command(app)
    options: set[str] = set()
    rest = list(words)

    # when
    while True:
        options |= {name for parameter in command.params for name in parameter.opts}
        while len(rest) > 1 and rest[0].startswith("--"):
            assert rest[0] in options, f"{where}: {rest[0]}"
            rest = rest[2:]
        if not hasattr(command, "commands"):
            break
        assert rest and rest[0] in command.commands, f"{where}: hodei {shlex.join(words)}"
        command = command.commands[rest.pop(0)]

    # then
    takes_any = command.context_settings.get("ignore_unknown_options")
    unknown = [word for word in rest if re.match(r"--[a-z]", word) and word not in options]
    assert takes_any or unknown == [], f"{where}: {unknown}"


def readme_commands() -> list[str]:
    return [
        line for block in blocks("sh") if block.page.name == "README.md" for line in block.text.splitlines()
    ]


def test_the_readme_begins_with_two_commands() -> None:
    # then
    assert [command.split()[1:] for command in readme_commands()] == [["hodei", "demo"], ["pytest"]]


@pytest.mark.parametrize("block", blocks("sh", "sh run", "sh docker", "sh kubernetes"), ids=str)
def test_a_block_is_a_shells_language(block: Block) -> None:
    # when
    checked = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)

    # then
    assert checked.returncode == 0, checked.stderr


def test_the_images_requirements_are_those_of_the_lock() -> None:
    """``deploy/requirements.lock`` has what runs, the root one everything: the versions and hashes are the same."""
    # given
    whole, image = (_pins(CHECKOUT / name) for name in ("requirements.lock", "deploy/requirements.lock"))

    # then
    assert image.items() <= whole.items()


@pytest.mark.parametrize("name", ["requirements.lock", "deploy/requirements.lock"])
def test_a_lock_names_no_place_and_has_a_hash_for_everything(name: str) -> None:
    # given
    lock = (CHECKOUT / name).read_text(encoding="utf-8")

    # then
    assert "://" not in lock and "--index" not in lock and "--find-links" not in lock
    assert all(_pins(CHECKOUT / name).values())


def _pins(lock: Path) -> dict[str, frozenset[str]]:
    """``name==version`` → its hashes."""
    entries = re.findall(
        r"^([a-z0-9][^ \n]*==[^ ;\n]+)(.*(?:\n    --hash.*)*)", lock.read_text(), re.MULTILINE
    )
    return {pin: frozenset(re.findall(r"--hash=(\S+)", rest)) for pin, rest in entries}
