"""Starts the agent: `python -m hodei_agent`, `python3 /opt/hodei/hodei_agent`, or the script `hodei-agent`.

This file must parse on any Python, so that one that is too old can say so.
"""

import sys

EXIT_NO_PYTHON = 70


def main():
    """Run the agent until it leaves; ends the process and does not return."""
    if sys.version_info < (3, 8):  # noqa: UP036
        sys.stderr.write(
            "hodei-agent: this image has Python %d.%d, but the agent needs Python 3.8 or newer.\n"  # noqa: UP031
            % sys.version_info[:2]
        )
        sys.exit(EXIT_NO_PYTHON)
    if not __package__:  # started as a folder: what is importable is the folder above, not its insides
        sys.path[0] = sys.path[0].rpartition("/")[0] or "/"
    from hodei_agent.agent import run

    run(sys.argv[1:])


if __name__ == "__main__":
    main()
